"""How long a client takes, learnt from how long it took: real devices don't publish their speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch

from fedlight.core.types import Report, Timing, Work
from fedlight.errors import ConfigError

Floats = npt.NDArray[np.float64]

_MOMENTS = 6  # per client and phase: Σ1, Σw, Σwx, Σwy, Σwxx, Σwxy
_PULL = 0.5  # observations that the belief "the fixed part is that of the others" counts for


@final
class TimeModel:
    """T_n(work) = Σ over download, compute, upload of fixed + slope · amount, six coefficients per client.

    Amounts are bytes, multiply-accumulates, bytes. Each line is fitted by least squares on time per amount (each
    observation counts by 1/amount², since noise of times is multiplicative) with exponential forgetting. A client that
    always does the same work shows one point of its line only: the fixed part is therefore pulled to the median of the
    other clients, with the weight of half an observation. Neither coefficient is let below zero.

    A client that was never seen, one that has just joined say, takes the median coefficients of those of its device
    class, or of all where none of them was seen. State is kept for clients seen only: 18 numbers and a name each.

    Args:
        forgetting: weight of an observation after one more of the same client, in (0, 1]; 0.9 remembers some ten.
    """

    def __init__(self, forgetting: float = 0.9) -> None:
        if not 0.0 < forgetting <= 1.0:
            raise ConfigError(
                f"forgetting={forgetting} is outside (0, 1]: 1 never forgets, 0.9 remembers some ten rounds"
            )
        self.forgetting = forgetting
        self._row: dict[int, int] = {}
        self._moments = np.zeros((0, 3, _MOMENTS))
        self._prior = np.zeros((3, 2))  # (fixed, slope) of the median client
        self._lines: Floats | None = None
        self._devices: list[str] = []  # device class by row
        self._of_class: dict[str, Floats] = {}  # median coefficients

    def __len__(self) -> int:
        """Number of clients seen."""
        return len(self._row)

    @property
    def clients(self) -> Sequence[int]:
        """Clients seen, in the order in which they first came back."""
        return tuple(self._row)

    def observe(
        self,
        clients: Sequence[int],
        works: Sequence[Work],
        timings: Sequence[Timing],
        devices: Sequence[str] | None = None,
    ) -> None:
        """Take in how long clients took for what (a client may come more than once), and their device classes."""
        told = dict(zip(clients, devices, strict=True)) if devices is not None else {}
        new = [client for client in dict.fromkeys(clients) if client not in self._row]
        self._row.update({client: len(self._row) + index for index, client in enumerate(new)})
        self._devices += [told.get(client, "") for client in new]
        self._moments = np.concatenate([self._moments, np.zeros((len(new), 3, _MOMENTS))])
        for client, work, timing in zip(clients, works, timings, strict=True):
            x, y = _amounts(work), np.array([timing.download_s, timing.compute_s, timing.upload_s])
            weight = 1.0 / np.maximum(x, 1.0) ** 2
            row = self._row[client]
            self._moments[row] *= self.forgetting
            self._moments[row] += (weight * np.stack([1.0 / weight, np.ones(3), x, y, x * x, x * y])).T
        if clients:
            self._refit()

    def learn(self, reports: Sequence[Report]) -> None:
        """Take in the times that finished clients report."""
        self.observe(
            [report.client for report in reports],
            [report.work for report in reports],
            [report.timing for report in reports],
            [report.device for report in reports],
        )

    def predict_s(self, client: int, work: Work, device: str = "") -> float:
        """Return the seconds that a client of this class takes for this work; 0 while no client was ever seen."""
        fixed, slope = self._line(client, device).T
        return float((fixed + slope * _amounts(work)).sum())

    def forget(self, clients: Sequence[int]) -> None:
        """Drop what was learnt of these clients."""
        stay = [client for client in self._row if client not in set(clients)]
        rows = [self._row[client] for client in stay]
        self._moments, self._devices = self._moments[rows], [self._devices[row] for row in rows]
        self._row = {client: row for row, client in enumerate(stay)}
        self._lines = None

    def state_dict(self) -> dict[str, Any]:
        """Return what was learnt of every client seen."""
        return {
            "clients": torch.tensor(list(self._row), dtype=torch.int64),
            "devices": list(self._devices),
            "moments": torch.from_numpy(self._moments.copy()),
            "prior": torch.from_numpy(self._prior.copy()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self._row = {client: row for row, client in enumerate(state["clients"].tolist())}
        self._moments = state["moments"].numpy().copy()
        self._prior = state["prior"].numpy().copy()
        # What an older version didn't write is not known.
        self._devices = list(state.get("devices", [""] * len(self._row)))
        self._lines = None

    def _line(self, client: int, device: str) -> Floats:
        if self._lines is None:
            self._lines, self._of_class = _fit(self._moments, self._prior[:, 0]), {}
        if client in self._row:
            line: Floats = self._lines[self._row[client]]
            return line
        if device not in self._of_class:
            rows = [row for row, name in enumerate(self._devices) if name == device]
            self._of_class[device] = np.median(self._lines[rows], axis=0) if device and rows else self._prior
        return self._of_class[device]

    def _refit(self) -> None:
        """Fit all lines by the prior so far, and take their median for the next prior."""
        self._prior = np.median(_fit(self._moments, self._prior[:, 0]), axis=0)
        self._lines = None


def _amounts(work: Work) -> Floats:
    return np.array([work.download_bytes, work.macs, work.upload_bytes], dtype=np.float64)


def _fit(moments: Floats, usual_fixed: Floats) -> Floats:
    """Fit (fixed, slope) of every row: min Σ w (y - fixed - slope x)² + pull (fixed - usual)², both >= 0."""
    count, w, wx, wy, wxx, wxy = np.moveaxis(moments, -1, 0)
    pull = _PULL * w / np.where(count > 0, count, 1.0)
    a, b = w + pull, wy + pull * usual_fixed
    det = a * wxx - wx * wx
    with np.errstate(divide="ignore", invalid="ignore"):
        fixed = np.where(det > 0, (b * wxx - wx * wxy) / det, 0.0)
        fixed = np.clip(fixed, 0.0, np.where(w > 0, wy / w, 0.0))  # above the mean the slope would be negative
        slope = np.where(wxx > 0, np.maximum(0.0, (wxy - fixed * wx) / wxx), 0.0)
    return np.stack([fixed, slope], axis=-1)
