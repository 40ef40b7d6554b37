"""Kept positions of the dims of a tensor, and the fast ways to reach the entries that they name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import final

import torch
from torch import Tensor

_LONG_ROW = 1 << 12  # kept entries from which a row is added by itself
_CHUNK = 1 << 15  # entries scattered at a time: offsets and values stay in the cache (half the time of one big scatter)


@final
class Kept:
    """The kept positions of one dim.

    Attributes:
        blocks: int64[count / block], ascending: the kept blocks.
        block: positions of one block.
        positions: int64[count], ascending.
        count: number of kept positions.
        first: first of them.
        is_run: whether they follow each other without a gap.
    """

    def __init__(self, blocks: Tensor, block: int) -> None:
        self.blocks, self.block = blocks, block
        self.positions = blocks if block == 1 else (blocks[:, None] * block + torch.arange(block)).view(-1)
        self.count = len(self.positions)
        self.first = int(self.positions[0]) if self.count else 0
        self.is_run = not self.count or int(self.positions[-1]) - self.first + 1 == self.count

    @classmethod
    def of(cls, keep: Tensor, owner: Tensor, block: int) -> Kept | None:
        """Find the kept positions, None if that is all of them.

        Args:
            keep: bool[num_units + 1], the last for positions without an owner.
            owner: int64[size of the dim].
            block: positions that follow each other and share their owner.
        """
        mask = keep[owner[::block]]
        blocks = mask.nonzero().view(-1)
        return None if len(blocks) == len(mask) else cls(blocks, block)

    def select(self, tensor: Tensor, dim: int) -> Tensor:
        """Copy the kept positions of one dim, by whole blocks."""
        blocks = self.blocks.to(tensor.device)
        if self.block == 1:
            return tensor.index_select(dim, blocks)
        before, after = tensor.shape[:dim], tensor.shape[dim + 1 :]
        return tensor.reshape(*before, -1, self.block, *after).index_select(dim, blocks).flatten(dim, dim + 1)


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
    weight and client. A long row is scattered into one row of zeros that serves all rows, and added as a whole.
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

    def add_(self, flat: Tensor, values: Tensor, weight: float) -> None:
        """Add ``weight * values`` at the kept entries of a flat tensor, values in their order."""
        inner = len(self._inner)
        if inner >= _LONG_ROW:
            row = torch.zeros(self._row_size, dtype=values.dtype, device=values.device)
            for start, target in self._long_rows(flat):
                target.add_(row.scatter_(0, self._inner, values[start : start + inner]), alpha=weight)
            return
        for start, offsets in self._chunks():
            part = values[start : start + len(offsets)].to(flat.dtype, copy=True).mul_(weight)
            flat.scatter_add_(0, offsets, part)

    def add_constant_(self, flat: Tensor, weight: float) -> None:
        """Add ``weight`` at the kept entries."""
        value = torch.tensor(weight, dtype=flat.dtype, device=flat.device)
        if len(self._inner) >= _LONG_ROW:
            row = torch.zeros(self._row_size, dtype=flat.dtype, device=flat.device)
            row[self._inner] = value
            for _, target in self._long_rows(flat):
                target.add_(row)
            return
        for _, offsets in self._chunks():
            flat.scatter_add_(0, offsets, value.expand(len(offsets)))

    def put_(self, flat: Tensor, values: Tensor) -> None:
        """Write values, in their order, at the kept entries."""
        for start, offsets in self._chunks():
            flat.scatter_(0, offsets, values[start : start + len(offsets)])

    def _long_rows(self, flat: Tensor) -> Iterator[tuple[int, Tensor]]:
        for row, offset in enumerate(self._rows.tolist()):
            yield row * len(self._inner), flat[offset : offset + self._row_size]

    def _chunks(self) -> Iterator[tuple[int, Tensor]]:
        inner = len(self._inner)
        if inner == 1:
            yield 0, self._rows
            return
        step = max(1, _CHUNK // inner)
        for row in range(0, len(self._rows), step):
            yield row * inner, (self._rows[row : row + step, None] + self._inner).view(-1)
