"""Connections that break: whether a job's transfer gets through."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import numpy as np

from fedlight.core.fleet import Departure
from fedlight.core.seeds import numpy_generator
from fedlight.core.types import Timing
from fedlight.errors import ConfigError


class Connectivity(ABC):
    """Does a job's connection hold? A pure function of the run's seed and the departure."""

    @abstractmethod
    def setup(self, num_clients: int, seed: int) -> None:
        """Get to know the run; called once, before any question."""

    @abstractmethod
    def drop_s(self, departure: Departure, timing: Timing) -> float | None:
        """Return after how many seconds of the job its connection breaks, in [0, total]; None: it holds."""


@final
class Drops(Connectivity):
    """Connections break while something is sent: some jobs' for sure, and each with a rate per second of transfer.

    P(job lost) = 1 - (1 - per_job) exp(-per_second · (download + upload)). The moment is uniform over the transfer for
    the first kind and exponential for the second; whichever comes first ends the job. Nothing breaks while a client
    computes: it needs no connection then.

    Args:
        per_job: probability, in [0, 1].
        per_second: rate per second of download and upload, >= 0.
    """

    def __init__(self, per_job: float = 0.1, per_second: float = 0.0) -> None:
        if not 0.0 <= per_job <= 1.0:
            raise ConfigError(f"per_job={per_job} is no probability: give a number in [0, 1]")
        if not 0.0 <= per_second < np.inf:
            raise ConfigError(f"per_second={per_second} is no rate: give drops per second of transfer, at least 0")
        self.per_job = per_job
        self.per_second = per_second
        self._seed = 0

    def setup(self, num_clients: int, seed: int) -> None:
        """Remember the seed."""
        self._seed = seed

    def drop_s(self, departure: Departure, timing: Timing) -> float | None:
        """Return when the job's connection breaks."""
        purpose = f"fleet/drop/{departure.repeat}"
        rng = numpy_generator(self._seed, departure.round_idx, departure.client, purpose)
        whether, where, wait = rng.random(), rng.random(), rng.exponential()
        transfer_s = timing.download_s + timing.upload_s
        at_s = where * transfer_s if whether < self.per_job else np.inf
        if self.per_second > 0:
            at_s = min(at_s, wait / self.per_second)
        if at_s >= transfer_s:
            return None
        return float(at_s if at_s < timing.download_s else at_s + timing.compute_s)
