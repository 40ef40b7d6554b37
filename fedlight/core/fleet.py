"""The fleet: which devices the clients are, when they are up, and how their jobs end."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from fedlight.core.slots import Part
from fedlight.core.types import Timing, Work
from fedlight.errors import ConfigError
from fedlight.submodels.structure import Cost


@dataclass(frozen=True)
class Departure:
    """A client is sent off.

    Attributes:
        client: the client's number.
        round_idx: version of the global model that it starts from.
        now_s: simulated time.
        repeat: how many jobs it has begun from this version before.
    """

    client: int
    round_idx: int
    now_s: float
    repeat: int = 0


@dataclass(frozen=True)
class Fate:
    """What becomes of a job.

    Attributes:
        timing: simulated seconds it takes if nothing comes between.
        lost_s: simulated time at which the client or its connection is gone; None if the result comes back.
        cause: why it is lost, one word for tags: ``left``, ``dropped``.
    """

    timing: Timing
    lost_s: float | None = None
    cause: str = ""


@dataclass(frozen=True)
class FleetRow:
    """One line of a fleet table: a kind of device and the medians of those who have it.

    Attributes:
        device: name of the device class.
        num_clients: number of clients with such a device.
        macs_per_s: speed, multiply-accumulates per second.
        down_bits_per_s: bandwidth from the server.
        up_bits_per_s: bandwidth to the server.
        latency_s: delay of each transfer.
        noise: standard deviation of the log of a round's time.
        memory_bytes: memory for training; infinity where there is no limit.
        joules_per_mac: energy of a multiply-accumulate; 0 where it isn't known.
        joules_per_byte: energy of a byte sent to the server.
    """

    device: str
    num_clients: int
    macs_per_s: float
    down_bits_per_s: float
    up_bits_per_s: float
    latency_s: float
    noise: float
    memory_bytes: float = math.inf
    joules_per_mac: float = 0.0
    joules_per_byte: float = 0.0


class Fleet(Part):
    """Which devices are the clients, how long does work take on them, and are they there?"""

    @abstractmethod
    def setup(self, num_clients: int, seed: int) -> None:
        """Draw a device for every client (once, before the first round)."""

    @abstractmethod
    def timing(self, client: int, work: Work, round_idx: int) -> Timing:
        """Return the simulated seconds that this work takes; noise depends on (seed, round, client) alone."""

    def expected_timing(self, client: int, work: Work, now_s: float) -> Timing:
        """Return the median of :meth:`timing` over noise, at this simulated time: what a ``known`` cost model reads.

        Raises:
            ConfigError: here: this fleet doesn't tell.
        """
        raise ConfigError(
            f"{type(self).__name__} doesn't tell how long work is expected to take: fill its expected_timing, or let "
            "the cost model be learned"
        )

    @abstractmethod
    def device(self, client: int) -> str:
        """Return the name of the client's device class."""

    @abstractmethod
    def candidates(self, now_s: float) -> Sequence[int]:
        """Return the clients that are up at this simulated time, ascending: a range or an array."""

    def next_up_s(self, now_s: float) -> float | None:
        """Return the first time after ``now_s`` at which a client that is down comes up; None: never.

        Asked where nobody is up, and by schedules that have places free.
        """
        return None

    def share(self, departure: Departure) -> float:
        """Return the fraction in (0, 1] of the local work asked for that the client will do."""
        return 1.0

    def fate(self, departure: Departure, work: Work) -> Fate:
        """Return how long this job takes and whether it comes back; depends on the run's seed and the arguments alone.

        ``work`` is what it will do, its share of what was asked for.
        """
        return Fate(self.timing(departure.client, work, departure.round_idx))

    def fits(self, client: int, cost: Cost) -> bool:
        """Return whether the client's memory holds the training of a submodel of this cost."""
        return True

    def describe(self) -> list[FleetRow]:
        """Return one row per device class that has clients, for the table at the start of a run; empty: none."""
        return []

    def changes(self) -> dict[str, str]:
        """Return in words what changes over time: axis (``availability``, ...) to what it follows; empty: nothing."""
        return {}

    def energy_j(self, client: int, work: Work) -> float:
        """Return the joules that this work takes on the client's device; 0 where the device's appetite isn't known."""
        return 0.0
