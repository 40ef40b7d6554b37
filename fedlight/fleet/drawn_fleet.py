"""A fleet in which every client's speed and links are drawn from distributions."""

from __future__ import annotations

from typing import final

import numpy as np

from fedlight.core.seeds import SERVER, numpy_generator
from fedlight.errors import ConfigError
from fedlight.fleet.devices import Devices
from fedlight.fleet.distributions import Distribution
from fedlight.fleet.steady_fleet import SteadyFleet


@final
class DrawnFleet(SteadyFleet):
    """No two devices alike: speed, bandwidths and memory of each client drawn once, independently of each other.

    Args:
        macs_per_s: speeds of training, MAC/s.
        down_bits_per_s: bandwidths from the server, bit/s.
        up_bits_per_s: bandwidths to the server; None: each device's is that from the server.
        memory_bytes: memories for training; None: no limit.
        latency_s: delay added to each transfer, >= 0.
        noise: standard deviation of the log of a job's time, >= 0.
    """

    def __init__(
        self,
        macs_per_s: Distribution,
        down_bits_per_s: Distribution,
        up_bits_per_s: Distribution | None = None,
        memory_bytes: Distribution | None = None,
        latency_s: float = 0.0,
        noise: float = 0.1,
    ) -> None:
        for key, value in (("latency_s", latency_s), ("noise", noise)):
            if not 0 <= value < np.inf:
                raise ConfigError(f"{key}={value} is not a number, at least 0")
        self.macs_per_s = macs_per_s
        self.down_bits_per_s = down_bits_per_s
        self.up_bits_per_s = up_bits_per_s
        self.memory_bytes = memory_bytes
        self.latency_s = latency_s
        self.noise = noise

    def draw(self, num_clients: int, seed: int) -> Devices:
        """Draw every client's device; what is drawn of one kind doesn't depend on the others."""
        columns = {"latency_s": np.full(num_clients, self.latency_s), "noise": np.full(num_clients, self.noise)}
        for name in ("macs_per_s", "down_bits_per_s", "up_bits_per_s", "memory_bytes"):
            distribution: Distribution | None = getattr(self, name)
            if distribution is not None:
                rng = numpy_generator(seed, -1, SERVER, f"fleet/{name}")
                columns[name] = distribution.draw(rng, num_clients)
        columns.setdefault("up_bits_per_s", columns["down_bits_per_s"])
        return Devices(["drawn"], np.zeros(num_clients, dtype=np.int64), columns, seed)
