"""Kept positions of the dims of a tensor, and the fast ways to reach the entries that they name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import final

import torch
from torch import Tensor

_LONG_ROW = 1 << 12  # entries from which a row is scattered by itself
_CHUNK = 1 << 15  # entries scattered at a time: offsets and values stay in the cache (half the time of one big scatter)


@final
class Kept:
    """The kept positions of one dim.

    Attributes:
        positions: int64[count], ascending.
        count: number of kept positions.
        first: first of them.
        is_run: whether they follow each other without a gap.
    """

    def __init__(self, positions: Tensor) -> None:
        self.positions = positions
        self.count = len(positions)
        self.first = int(positions[0]) if self.count else 0
        self.is_run = not self.count or int(positions[-1]) - self.first + 1 == self.count

    @classmethod
    def of(cls, mask: Tensor) -> Kept | None:
        """Find the kept positions, None if that is all of them."""
        positions = mask.nonzero().view(-1)
        return None if len(positions) == len(mask) else cls(positions)


Dims = tuple[Kept | None, ...]
"""Kept positions per dim of one tensor, None where all are."""


def all_runs(dims: Dims) -> bool:
    """Whether the kept entries are a view of the tensor."""
    return all(kept is None or kept.is_run for kept in dims)


def runs(tensor: Tensor, dims: Dims) -> Tensor:
    """View the kept entries, all of whose dims are runs."""
    for dim, kept in enumerate(dims):
        if kept is not None:
            tensor = tensor.narrow(dim, kept.first, kept.count)
    return tensor


@final
class Offsets:
    """Flat offsets of the kept entries of a contiguous tensor: of its rows (first dim), and inside a row.

    One scatter over flat offsets beats index_add_ along a dim (2 to 20 times: its inner loop is a call per row),
    advanced indexing (which reads, adds and writes: 2 to 4 times), and padding to the full shape. Rows' and inner
    offsets are summed anew each time, which costs half of the scatter, because keeping the sums would take 8 bytes per
    weight and client; a row that is long enough for a scatter of its own needs no sum.
    """

    def __init__(self, shape: Sequence[int], dims: Dims, device: torch.device) -> None:
        inner, stride = torch.zeros(1, dtype=torch.int64), 1
        for size, kept in zip(reversed(shape[1:]), reversed(dims[1:]), strict=True):
            positions = torch.arange(size) if kept is None else kept.positions
            inner = (positions[:, None] * stride + inner).view(-1)
            stride *= size
        rows = torch.arange(shape[0]) if dims[0] is None else dims[0].positions
        rows = rows * stride
        if len(inner) == 1:
            rows, inner = rows + inner, torch.zeros(1, dtype=torch.int64)
        self._inner, self._rows, self._row_size = inner.to(device), rows.to(device), stride

    def add_constant_(self, flat: Tensor, weight: float) -> None:
        """Add ``weight`` at every kept entry."""
        value = torch.tensor(weight, dtype=flat.dtype, device=flat.device)
        if len(self._inner) >= _LONG_ROW:  # all kept rows get the same: adding it with its zeros is half a scatter
            row = torch.zeros(self._row_size, dtype=flat.dtype, device=flat.device)
            row[self._inner] = value
            for offset in self._rows.tolist():
                flat[offset : offset + self._row_size].add_(row)
            return
        for _, target, offsets in self.parts(flat):
            target.scatter_add_(0, offsets, value.expand(len(offsets)))

    def parts(self, flat: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield (position in the thin tensor, part of ``flat``, offsets in that part), a chunk at a time."""
        inner = len(self._inner)
        if inner >= _LONG_ROW:
            for row, offset in enumerate(self._rows.tolist()):
                yield row * inner, flat[offset : offset + self._row_size], self._inner
        elif inner == 1:
            yield 0, flat, self._rows
        else:
            step = _CHUNK // inner
            for row in range(0, len(self._rows), step):
                yield row * inner, flat, (self._rows[row : row + step, None] + self._inner).view(-1)
