"""Sequences of tokens cut from one long row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from fedlight.data.examples import Examples, column_of


@final
class Windows(Examples):
    """Sequences of L tokens, each with the L tokens that follow its own as targets.

    Args:
        tokens: int64[n].
        starts: int64[windows], position of the first token of every sequence; L more tokens follow it.
        length: L, tokens per sequence, >= 1.
        columns: one value per sequence, by column name.
    """

    def __init__(
        self, tokens: Tensor, starts: Tensor, length: int, columns: Mapping[str, np.ndarray] | None = None
    ) -> None:
        self._tokens = tokens
        self._starts = starts
        self._within = torch.arange(length + 1)
        self._columns = columns or {}

    def __len__(self) -> int:
        return len(self._starts)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs and targets, int64[B, L] each."""
        places = self._starts.index_select(0, indices).unsqueeze(1) + self._within
        windows = self._tokens[places]
        return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()

    @property
    def labels(self) -> None:
        """None: a sequence has no class."""
        return

    def column(self, name: str) -> Any:
        """Return the values of a column."""
        return column_of(self._columns, name)


def starts_within(begin: int, end: int, length: int) -> np.ndarray:
    """Return where sequences of ``length`` tokens that don't overlap begin in [begin, end), each with one to follow."""
    return np.arange(begin, end - length, length)
