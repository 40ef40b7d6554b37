"""Device classes, and a fleet made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from fedlight.core.fleet import Departure, Fate, Fleet
from fedlight.core.seeds import SERVER, numpy_generator
from fedlight.core.types import Timing, Work
from fedlight.errors import ConfigError


@final
@dataclass(frozen=True)
class DeviceClass:
    """A kind of device: how many there are, how fast they compute, and how they are linked.

    Attributes:
        name: what pictures and tables call it.
        share: its share of the fleet, relative to the other classes' (they need not sum to 1), > 0.
        macs_per_s: effective speed of training, multiply-accumulates per second (1 MAC = 2 FLOP), > 0.
        down_bits_per_s: bandwidth from the server, > 0.
        up_bits_per_s: bandwidth to the server, > 0.
        latency_s: delay added to each transfer, >= 0.
        noise: standard deviation of the log of a round's time, >= 0; 0.1 is about 10 %.
        speed_spread: standard deviation of the log of the speed over the devices of the class, >= 0; ``macs_per_s`` is
            the median.
        link_spread: likewise of the bandwidths; a device draws one factor for both directions.
        speed_limits: two bounds that a drawn speed is clipped to, MAC/s; None for no bounds.
    """

    name: str
    share: float
    macs_per_s: float
    down_bits_per_s: float
    up_bits_per_s: float
    latency_s: float = 0.0
    noise: float = 0.0
    speed_spread: float = 0.0
    link_spread: float = 0.0
    speed_limits: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for key in ("share", "macs_per_s", "down_bits_per_s", "up_bits_per_s"):
            self._check(key, 0 < getattr(self, key) < math.inf, "a number above 0")
        for key in ("latency_s", "noise", "speed_spread", "link_spread"):
            self._check(key, 0 <= getattr(self, key) < math.inf, "a number, at least 0")
        low, high = self.speed_limits or (1.0, 1.0)
        self._check("speed_limits", 0 < low <= high, "two numbers above 0, the lower one first")

    def _check(self, key: str, holds: bool, what: str) -> None:
        if not holds:
            raise ConfigError(f"model.fleet: {key} of device class {self.name!r} is {getattr(self, key)}: give {what}")


@final
@dataclass(frozen=True)
class FleetRow:
    """One line of a fleet table: a device class and its devices' medians.

    Attributes:
        device: name of the class.
        num_clients: number of clients with such a device.
        macs_per_s: median speed.
        down_bits_per_s: median bandwidth from the server.
        up_bits_per_s: median bandwidth to the server.
        latency_s: delay of each transfer.
        noise: standard deviation of the log of a round's time.
    """

    device: str
    num_clients: int
    macs_per_s: float
    down_bits_per_s: float
    up_bits_per_s: float
    latency_s: float
    noise: float


class DeviceFleet(Fleet):
    """A fleet of device classes; who has which device is drawn once from the run's seed.

    T = ε (download + compute + upload) with download = latency + 8 bytes / bandwidth, compute = MACs / speed, upload
    like download. The noise ε = exp(σ z), z ~ N(0, 1) drawn from (seed, round, client), has median 1 and stretches all
    three parts alike: a device that is busy or far away for a round is slow in all of it. All devices are always up.

    The number of clients of a class is its share of the fleet, rounded by largest remainder. A ready fleet is a final
    subclass with only an ``__init__`` that fills in the classes.

    Args:
        classes: the device classes, at least one.
    """

    def __init__(self, classes: list[DeviceClass]) -> None:
        if not classes:
            raise ConfigError("model.fleet has no device classes: give at least one")
        self.classes = list(classes)
        self._seed = 0
        self._kind = np.zeros(0, dtype=np.int16)
        self._macs_per_s = self._down_bits_per_s = self._up_bits_per_s = np.zeros(0)

    def setup(self, num_clients: int, seed: int) -> None:
        """Draw a device for every client."""
        rng = numpy_generator(seed, -1, SERVER, "fleet")
        counts = largest_remainder([entry.share for entry in self.classes], num_clients)
        self._seed = seed
        self._kind = rng.permutation(np.repeat(np.arange(len(self.classes), dtype=np.int16), counts))
        speed_factor = np.exp(self._of_class("speed_spread") * rng.standard_normal(num_clients))
        link_factor = np.exp(self._of_class("link_spread") * rng.standard_normal(num_clients))
        low, high = np.array([entry.speed_limits or (0.0, np.inf) for entry in self.classes])[self._kind].T
        self._macs_per_s = np.clip(self._of_class("macs_per_s") * speed_factor, low, high)
        self._down_bits_per_s = self._of_class("down_bits_per_s") * link_factor
        self._up_bits_per_s = self._of_class("up_bits_per_s") * link_factor

    def timing(self, client: int, work: Work, round_idx: int) -> Timing:
        """Return the simulated seconds of this work; noise depends on (seed, round, client) alone."""
        return self.fate(Departure(client, round_idx, 0.0), work).timing

    def fate(self, departure: Departure, work: Work) -> Fate:
        """Return the seconds of this job, which always comes back; a repeated job draws noise of its own."""
        client, median = departure.client, self.expected_timing(departure.client, work)
        spread = self.classes[int(self._kind[client])].noise
        if not spread:
            return Fate(median)
        purpose = f"fleet/{departure.repeat}" if departure.repeat else "fleet"
        noise = math.exp(spread * numpy_generator(self._seed, departure.round_idx, client, purpose).standard_normal())
        return Fate(Timing(noise * median.download_s, noise * median.compute_s, noise * median.upload_s))

    def expected_timing(self, client: int, work: Work, now_s: float = 0.0) -> Timing:
        """Return the seconds without noise, whose median is 1."""
        latency_s = self.classes[int(self._kind[client])].latency_s
        return Timing(
            download_s=latency_s + 8 * work.download_bytes / float(self._down_bits_per_s[client]),
            compute_s=work.macs / float(self._macs_per_s[client]),
            upload_s=latency_s + 8 * work.upload_bytes / float(self._up_bits_per_s[client]),
        )

    def device(self, client: int) -> str:
        """Return the name of the client's device class."""
        return self.classes[int(self._kind[client])].name

    def candidates(self, now_s: float) -> Sequence[int]:
        """Return all clients."""
        return range(len(self._kind))

    def describe(self) -> list[FleetRow]:
        """Return one row per device class that has clients, in the order of the classes."""
        rows = []
        for index, entry in enumerate(self.classes):
            mine = self._kind == index
            if mine.any():
                speed, down, up = (
                    float(np.median(values[mine]))
                    for values in (self._macs_per_s, self._down_bits_per_s, self._up_bits_per_s)
                )
                rows.append(FleetRow(entry.name, int(mine.sum()), speed, down, up, entry.latency_s, entry.noise))
        return rows

    def _of_class(self, field: str) -> np.ndarray:
        """Return float64[num_clients]: what every client's device class says."""
        return np.array([getattr(entry, field) for entry in self.classes])[self._kind]


def largest_remainder(shares: Sequence[float], total: int) -> np.ndarray:
    """Return int64[len(shares)] that sums to ``total``: quotas rounded down, the rest to the largest remainders.

    Equal remainders go to the earlier share (Hamilton's method).
    """
    quotas = np.array(shares, dtype=np.float64) / sum(shares) * total
    # 0.7 / 1.0 · 10 is 6.999...: what is a whole number up to rounding must count as one.
    counts = np.floor(quotas + 1e-9).astype(np.int64)
    first = np.argsort(-np.round(quotas - counts, 9), kind="stable")[: total - counts.sum()]
    counts[first] += 1
    return counts
