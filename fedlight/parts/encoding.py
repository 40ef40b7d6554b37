"""How many bytes a sparse tensor takes: the cheapest of dense, bitmap, coordinates and compressed rows or columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from fedlight.errors import ConfigError

Scheme = Literal["dense", "bitmap", "coo", "csr", "csc"]


def encoded_bytes(shape: Sequence[int], num_nonzero: int, bytes_per_value: float = 4) -> int:
    """Return the bytes of a tensor of which ``num_nonzero`` entries are sent, in its cheapest scheme.

    Args:
        shape: shape of the tensor.
        num_nonzero: entries that are sent with their value.
        bytes_per_value: 4 for float32, 1 for 8 bits; fractions for fewer bits.

    Raises:
        ConfigError: more entries than the tensor has, or fewer than 0.
    """
    return min(scheme_bytes(shape, num_nonzero, bytes_per_value).values())


def scheme_bytes(shape: Sequence[int], num_nonzero: int, bytes_per_value: float = 4) -> dict[Scheme, int]:
    """Return the bytes in every scheme; n entries, m of them sent with b bits each, as an n_r x n_c matrix.

    dense n·b; bitmap n + m·b; coo m·(⌈log2 n⌉ + b) with flat offsets; csr m·(⌈log2 n_c⌉ + b) + n_r·⌈log2 m⌉; csc the
    same with rows and columns swapped. The first dim gives the rows, all others together the columns. In bits, rounded
    up to whole bytes.

    Source: FedRTS (NeurIPS 2025), appendix F.4. There the density alone picks the scheme; here the smallest wins.

    Raises:
        ConfigError: as :func:`encoded_bytes`.
    """
    size, sent = math.prod(shape), num_nonzero
    if not 0 <= sent <= size:
        raise ConfigError(f"num_nonzero={sent} doesn't fit a tensor of shape {tuple(shape)}: use 0 to {size}")
    rows = shape[0] if len(shape) > 1 else 1
    columns = size // rows if rows else 0
    values = 8 * bytes_per_value * sent
    bits: dict[Scheme, float] = {
        "dense": 8 * bytes_per_value * size,
        "bitmap": size + values,
        "coo": sent * _index_bits(size) + values,
        "csr": sent * _index_bits(columns) + rows * _index_bits(sent) + values,
        "csc": sent * _index_bits(rows) + columns * _index_bits(sent) + values,
    }
    return {scheme: math.ceil(num_bits / 8) for scheme, num_bits in bits.items()}


def _index_bits(count: int) -> int:
    """⌈log2 count⌉, exactly; 0 for nothing to tell apart."""
    return max(0, count - 1).bit_length()
