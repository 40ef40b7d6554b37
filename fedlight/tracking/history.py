"""What pictures remember: a table of rows (clients, layers) by rounds."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from typing import Any, final

import numpy as np
import torch


@final
class History:
    """A table of numbers, rows by rounds, that survives a restart; what was never recorded is NaN.

    Args:
        max_rows: rows to remember; the first ones seen are kept, later ones are left out. None: all.
    """

    def __init__(self, max_rows: int | None = None) -> None:
        self.max_rows = max_rows
        self.rounds: list[int] = []
        self._rows: dict[str, array[float]] = {}

    def __len__(self) -> int:
        return len(self.rounds)

    @property
    def rows(self) -> list[str]:
        """Names of the rows in the order in which they were first seen."""
        return list(self._rows)

    def record(self, round_idx: int, values: Mapping[str, float]) -> None:
        """Append one round."""
        for name, value in values.items():
            if name not in self._rows:
                if self.max_rows is not None and len(self._rows) >= self.max_rows:
                    continue
                self._rows[name] = array("f")
            row = self._rows[name]
            row.extend([math.nan] * (len(self.rounds) - len(row)))
            row.append(value)
        self.rounds.append(round_idx)

    def matrix(self) -> np.ndarray:
        """Return float32[rows, rounds], NaN where nothing was recorded."""
        table = np.full((len(self._rows), len(self.rounds)), np.nan, dtype=np.float32)
        for index, row in enumerate(self._rows.values()):
            table[index, : len(row)] = row
        return table

    def state_dict(self) -> dict[str, Any]:
        """Return the table as tensors and plain values."""
        return {"rows": self.rows, "rounds": list(self.rounds), "values": torch.from_numpy(self.matrix())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned."""
        self.rounds = list(state["rounds"])
        values = state["values"].numpy()
        self._rows = {name: array("f", values[index].tolist()) for index, name in enumerate(state["rows"])}
