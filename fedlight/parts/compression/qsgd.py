"""Updates in few bits, rounded by chance so that their mean is right."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, final

import torch
from torch import Tensor

from fedlight.core.seeds import torch_generator
from fedlight.core.slots import Compression
from fedlight.core.types import ClientTask, Update
from fedlight.errors import ConfigError
from fedlight.parts.compression.quantized import check_bits, packed_bytes
from fedlight.parts.compression.vector import UpdateVector, buffer_bytes, in_buckets, other_bytes
from fedlight.submodels.structure import Cost

_BUCKET_BYTES = 4  # the norm


@final
class QSGD(Compression):
    """Stochastic quantisation: Q(v)_i = N·sgn(v_i)·ξ_i, where ξ_i is l/s or (l+1)/s around |v_i|/N and E[Q(v)] = v.

    Alistarh et al. 2017, QSGD, section 3.1, with s = 2^(b-1) - 1 and one norm N for each bucket of consecutive entries
    (their section 4). The variance is at most min(d/s², √d/s)·‖v‖² in a bucket of d entries. Draws derive from
    (seed, round, client). Float buffers are sent as they are.

    Bytes: sign and level in b bits, ⌈b·n/8⌉, and 4 for every bucket; the paper's Elias code, which is shorter where
    most levels are 0, isn't counted.

    Args:
        bits: b, from 2 to 16, the sign among them.
        bucket_size: entries that share a norm, >= 1.
        norm: N: ``l2`` (the paper) or ``max`` (largest |v_i|, less noise).

    Raises:
        ConfigError: a number out of its range.
    """

    def __init__(self, bits: int = 8, bucket_size: int = 512, norm: Literal["l2", "max"] = "l2") -> None:
        check_bits(bits, bucket_size, "QSGD")
        if norm not in ("l2", "max"):
            raise ConfigError(f"norm={norm!r} of QSGD: use 'l2' or 'max'")
        self.bits = bits
        self.bucket_size = bucket_size
        self.norm = norm

    def upload_bytes(self, cost: Cost, level: float = 1.0) -> int:
        """Return the bytes of the quantised entries, of the norms and of the float buffers."""
        return packed_bytes(cost.parameters, self.bits, self.bucket_size, _BUCKET_BYTES) + other_bytes(cost)

    def encode(self, update: Update, task: ClientTask) -> Update:
        """Return the update as the server reads it."""
        vector = UpdateVector(update, task)
        sent = vector.flatten(update.delta)
        generator = torch_generator(task.seed, task.round_idx, task.client, "quantisation")
        num_bytes = packed_bytes(sent.numel(), self.bits, self.bucket_size, _BUCKET_BYTES) + buffer_bytes(update)
        return replace(update, delta=vector.unflatten(self._drawn(sent, generator)), upload_bytes=num_bytes)

    def _drawn(self, sent: Tensor, generator: torch.Generator) -> Tensor:
        rows = in_buckets(sent, self.bucket_size)
        norm = (
            torch.linalg.vector_norm(rows, dim=1, keepdim=True)
            if self.norm == "l2"
            else rows.abs().amax(1, keepdim=True)
        )
        top = 2 ** (self.bits - 1) - 1
        exact = top * rows.abs() / torch.where(norm == 0, 1.0, norm)  # nothing but zeros; NaN stays NaN
        below = exact.floor()
        # On the CPU: a GPU's generator draws other numbers.
        chance = torch.rand(rows.shape, generator=generator).to(rows.device)
        level = below + (chance < exact - below)
        drawn: Tensor = norm * rows.sign() * level / top
        return drawn.view(-1)[: sent.numel()]
