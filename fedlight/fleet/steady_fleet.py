"""Fleets that never change: one device per client, from wherever they come."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from fedlight.core.fleet import Departure, Fate, Fleet, FleetRow
from fedlight.core.types import Timing, Work
from fedlight.fleet.devices import Devices
from fedlight.submodels.structure import Cost


class SteadyFleet(Fleet):
    """Devices drawn once before the first round; all are always up, every job comes back.

    :class:`~fedlight.fleet.ChangingFleet` makes them come, go, drift and break off.

    Attributes:
        devices: every client's device; known after ``setup``.
    """

    devices: Devices

    @abstractmethod
    def draw(self, num_clients: int, seed: int) -> Devices:
        """Return a device for every client; depends on the seed alone."""

    def setup(self, num_clients: int, seed: int) -> None:
        """Draw the devices."""
        self.devices = self.draw(num_clients, seed)

    def timing(self, client: int, work: Work, round_idx: int) -> Timing:
        """Return the simulated seconds of this work; noise depends on (seed, round, client) alone."""
        return self.devices.timing(Departure(client, round_idx, 0.0), work)

    def fate(self, departure: Departure, work: Work) -> Fate:
        """Return the seconds of this job, which always comes back; a repeated job draws noise of its own."""
        return Fate(self.devices.timing(departure, work))

    def expected_timing(self, client: int, work: Work, now_s: float = 0.0) -> Timing:
        """Return the seconds without noise, whose median is 1."""
        return self.devices.expected(client, work)

    def device(self, client: int) -> str:
        """Return the name of the client's kind of device."""
        return self.devices.name(client)

    def candidates(self, now_s: float) -> Sequence[int]:
        """Return all clients."""
        return range(len(self.devices))

    def fits(self, client: int, cost: Cost) -> bool:
        """Return whether the device has the memory to train a submodel."""
        return self.devices.fits(client, cost)

    def energy_j(self, client: int, work: Work) -> float:
        """Return the joules of this work; 0 where nothing is known of them."""
        return self.devices.energy_j(client, work)

    def describe(self) -> list[FleetRow]:
        """Return one row per kind of device that has clients."""
        return self.devices.table()
