"""Device classes, and a fleet made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from fedlight.core.seeds import SERVER, numpy_generator
from fedlight.core.shares import check_shares
from fedlight.errors import ConfigError
from fedlight.fleet.devices import COLUMNS, Devices
from fedlight.fleet.steady_fleet import SteadyFleet

_ENERGIES = ("joules_per_mac", "joules_per_byte_down", "joules_per_byte_up")


@final
@dataclass(frozen=True)
class DeviceClass:
    """A kind of device: how many there are, how fast they compute, and how they are linked.

    Attributes:
        name: what pictures and tables call it.
        share: its share of the fleet, > 0: counts or other numbers relative to the other classes' (7, 7, 6), or
            fractions, which must sum to 1.
        macs_per_s: effective speed of training, multiply-accumulates per second (1 MAC = 2 FLOP), > 0.
        down_bits_per_s: bandwidth from the server, > 0.
        up_bits_per_s: bandwidth to the server, > 0.
        latency_s: delay added to each transfer, >= 0.
        noise: standard deviation of the log of a round's time, >= 0; 0.1 is about 10 %.
        speed_spread: standard deviation of the log of the speed over the devices of the class, >= 0; ``macs_per_s`` is
            the median.
        link_spread: likewise of the bandwidths; a device draws one factor for both directions.
        speed_limits: two bounds that a drawn speed is clipped to, MAC/s; None for no bounds.
        memory_bytes: what the device has for training, see :func:`~fedlight.fleet.devices.training_bytes`; a submodel
            that needs more is never sent. None: no limit.
        joules_per_mac: energy of one multiply-accumulate, >= 0; 0 where it isn't known.
        joules_per_byte_down: energy of receiving a byte, >= 0.
        joules_per_byte_up: energy of sending a byte, >= 0.
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
    memory_bytes: float | None = None
    joules_per_mac: float = 0.0
    joules_per_byte_down: float = 0.0
    joules_per_byte_up: float = 0.0

    def __post_init__(self) -> None:
        for key in ("share", "macs_per_s", "down_bits_per_s", "up_bits_per_s"):
            self._check(key, 0 < getattr(self, key) < math.inf, "a number above 0")
        for key in ("latency_s", "noise", "speed_spread", "link_spread", *_ENERGIES):
            self._check(key, 0 <= getattr(self, key) < math.inf, "a number, at least 0")
        self._check("memory_bytes", self.memory_bytes is None or self.memory_bytes > 0, "bytes above 0, or null")
        low, high = self.speed_limits or (1.0, 1.0)
        self._check("speed_limits", 0 < low <= high, "two numbers above 0, the lower one first")

    def _check(self, key: str, holds: bool, what: str) -> None:
        if not holds:
            raise ConfigError(f"model.fleet: {key} of device class {self.name!r} is {getattr(self, key)}: give {what}")


class DeviceFleet(SteadyFleet):
    """A fleet of device classes; who has which device is drawn once from the run's seed.

    Times are those of :class:`~fedlight.fleet.devices.Devices`: download, compute, upload, all three stretched alike by
    a round's noise: a device that is busy or far away for a round is slow in all of it.

    The number of clients of a class is its share of the fleet, rounded by largest remainder. A ready fleet is a final
    subclass with only an ``__init__`` that fills in the classes.

    Args:
        classes: the device classes, at least one.
    """

    def __init__(self, classes: list[DeviceClass]) -> None:
        if not classes:
            raise ConfigError("model.fleet has no device classes: give at least one")
        self.classes = list(classes)
        check_shares(
            [entry.name for entry in self.classes],
            [entry.share for entry in self.classes],
            "model.fleet: the shares of the device classes",
        )

    def draw(self, num_clients: int, seed: int) -> Devices:
        """Draw a device for every client."""
        rng = numpy_generator(seed, -1, SERVER, "fleet")
        counts = largest_remainder([entry.share for entry in self.classes], num_clients)
        kinds = rng.permutation(np.repeat(np.arange(len(self.classes), dtype=np.int16), counts))
        speed_factor = np.exp(self._of_class("speed_spread", kinds) * rng.standard_normal(num_clients))
        link_factor = np.exp(self._of_class("link_spread", kinds) * rng.standard_normal(num_clients))
        low, high = np.array([entry.speed_limits or (0.0, np.inf) for entry in self.classes])[kinds].T
        columns = {name: self._of_class(name, kinds) for name in COLUMNS}
        columns["macs_per_s"] = np.clip(columns["macs_per_s"] * speed_factor, low, high)
        columns["down_bits_per_s"] *= link_factor
        columns["up_bits_per_s"] *= link_factor
        return Devices([entry.name for entry in self.classes], kinds, columns, seed)

    def _of_class(self, field: str, kinds: np.ndarray) -> np.ndarray:
        """Return float64[num_clients]: what every client's device class says."""
        values = [getattr(entry, field) for entry in self.classes]
        of_class = np.array([math.inf if value is None else value for value in values], dtype=np.float64)
        of_client: np.ndarray = of_class[kinds]
        return of_client


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
