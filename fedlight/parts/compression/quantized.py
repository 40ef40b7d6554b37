"""Updates in few bits, rounded to the nearest."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import final

import torch
from torch import Tensor

from fedlight.core.slots import Compression
from fedlight.core.types import ClientTask, Update
from fedlight.errors import ConfigError
from fedlight.parts.compression.vector import UpdateVector, buffer_bytes, in_buckets, other_bytes
from fedlight.submodels.structure import Cost

_BUCKET_BYTES = 8  # scale and zero point


@final
class Quantized(Compression):
    """Affine quantisation: q = clamp(round(v/s) + z, 0, 2^b - 1), read as s·(q - z).

    With s = (hi - lo)/(2^b - 1) and z = round(-lo/s) for each bucket of consecutive entries; lo and hi are its extremes
    and 0, so that 0 stays exactly 0, and the error is at most s (s/2 away from the ends). Float buffers are sent as
    they are. Nothing is remembered of the error.

    Bytes: ⌈b·n/8⌉, and 8 for every bucket.

    Args:
        bits: b, from 2 to 16.
        bucket_size: entries that share a scale, >= 1.

    Raises:
        ConfigError: a number out of its range.
    """

    def __init__(self, bits: int = 8, bucket_size: int = 2048) -> None:
        check_bits(bits, bucket_size, "Quantized")
        self.bits = bits
        self.bucket_size = bucket_size

    def upload_bytes(self, cost: Cost, level: float = 1.0) -> int:
        """Return the bytes of the quantised entries, of the scales and of the float buffers."""
        return packed_bytes(cost.parameters, self.bits, self.bucket_size, _BUCKET_BYTES) + other_bytes(cost)

    def encode(self, update: Update, task: ClientTask) -> Update:
        """Return the update as the server reads it."""
        vector = UpdateVector(update, task)
        sent = vector.flatten(update.delta)
        num_bytes = packed_bytes(sent.numel(), self.bits, self.bucket_size, _BUCKET_BYTES) + buffer_bytes(update)
        return replace(update, delta=vector.unflatten(self._rounded(sent)), upload_bytes=num_bytes)

    def _rounded(self, sent: Tensor) -> Tensor:
        rows = in_buckets(sent, self.bucket_size)
        low, high = rows.amin(1, keepdim=True).clamp(max=0), rows.amax(1, keepdim=True).clamp(min=0)
        top = 2**self.bits - 1
        scale = (high - low) / top
        step = torch.where(scale == 0, 1.0, scale)  # nothing but zeros; NaN stays NaN
        zero = torch.round(-low / step)
        read = (torch.clamp(torch.round(rows / step) + zero, 0, top) - zero) * step
        return read.view(-1)[: sent.numel()]


def check_bits(bits: int, bucket_size: int, name: str) -> None:
    """Raise ConfigError for numbers that no quantisation has."""
    if not 2 <= bits <= 16:
        raise ConfigError(f"bits={bits} of {name} is outside 2 to 16: 8 is usual")
    if bucket_size < 1:
        raise ConfigError(f"bucket_size={bucket_size} of {name} must be 1 or more entries")


def packed_bytes(size: int, bits: int, bucket_size: int, bytes_per_bucket: int) -> int:
    """Return ⌈bits · size / 8⌉ + bytes_per_bucket · ⌈size / bucket_size⌉."""
    return math.ceil(bits * size / 8) + bytes_per_bucket * math.ceil(size / bucket_size)
