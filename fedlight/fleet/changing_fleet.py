"""A fleet that changes over simulated time: devices, and four axes along which they aren't what they were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar, final

from fedlight.core.fleet import Departure, Fate, Fleet, FleetRow
from fedlight.core.types import Timing, Work
from fedlight.errors import ConfigError
from fedlight.fleet.attendance import Attendance
from fedlight.fleet.availability import AllOf, AlwaysUp, Availability
from fedlight.fleet.completeness import Completeness
from fedlight.fleet.connectivity import Connectivity
from fedlight.fleet.responsiveness import Responsiveness, Slowdown
from fedlight.submodels.structure import Cost

_Part = TypeVar("_Part")


@final
class ChangingFleet(Fleet):
    """Devices that come and go, lose their connection, do less than they should, and drift in speed.

    Simulated time drives all change, not rounds, and every answer is a pure function of (seed, client, time) or of
    (seed, round, client, repeat): the order of questions doesn't matter, nothing needs to be saved, and algorithms
    compared on one seed meet the same weather. A job's time is that of its device, with the seconds of computing and of
    transfer multiplied by the slowdown at its departure. It is lost when its client goes down before it is finished
    (``left``) or its connection breaks (``dropped``), whichever is first.

    Args:
        devices: the fleet that changes; its devices are always up by themselves.
        availability: who is up when; of several, all must agree. None: everybody, always.
        connectivity: whether jobs' connections hold. None: they do.
        completeness: how much of its work a client does. None: all.
        responsiveness: how fast clients are at a time; slowdowns of several multiply. None: as their devices are.
    """

    def __init__(
        self,
        devices: Fleet,
        availability: Availability | list[Availability] | None = None,
        connectivity: Connectivity | None = None,
        completeness: Completeness | None = None,
        responsiveness: Responsiveness | list[Responsiveness] | None = None,
    ) -> None:
        self.devices = devices
        self.availability = _as_list(availability)
        self.connectivity = connectivity
        self.completeness = completeness
        self.responsiveness = _as_list(responsiveness)

    def setup(self, num_clients: int, seed: int) -> None:
        """Draw the devices and tell every axis of the run.

        Raises:
            ConfigError: devices that come and go by themselves.
        """
        self.devices.setup(num_clients, seed)
        if len(self.devices.candidates(0.0)) != num_clients:
            raise ConfigError(
                f"model.fleet.devices: {type(self.devices).__name__} has clients that aren't up at the start; give "
                "their comings and goings as model.fleet.availability"
            )
        up = AllOf(self.availability) if self.availability else AlwaysUp()
        for axis in (up, self.connectivity, self.completeness, *self.responsiveness):
            if axis is not None:
                axis.setup(num_clients, seed)
        self._attendance = Attendance(up, num_clients) if self.availability else None
        self._num_clients = num_clients

    def timing(self, client: int, work: Work, round_idx: int) -> Timing:
        """Return the simulated seconds of this work for a client that leaves at time 0."""
        return self.fate(Departure(client, round_idx, 0.0), work).timing

    def expected_timing(self, client: int, work: Work, now_s: float) -> Timing:
        """Return the seconds without noise at the client's speed of this time."""
        return _slowed(self.devices.expected_timing(client, work, now_s), self._slowdown(client, now_s))

    def fate(self, departure: Departure, work: Work) -> Fate:
        """Return the seconds of a job at its client's speed of now, and when and why it is lost, if it is."""
        client, now_s = departure.client, departure.now_s
        base = self.devices.fate(departure, work)
        timing = _slowed(base.timing, self._slowdown(client, now_s))
        losses = [] if base.lost_s is None else [(base.lost_s, base.cause)]
        if self.connectivity is not None:
            drop_s = self.connectivity.drop_s(departure, timing)
            losses += [] if drop_s is None else [(now_s + drop_s, "dropped")]
        if self._attendance is not None:
            down_s = self._attendance.down_s(client, now_s, now_s + timing.total_s)
            losses += [] if down_s is None else [(down_s, "left")]
        return Fate(timing, *min(losses)) if losses else Fate(timing)

    def share(self, departure: Departure) -> float:
        """Return the fraction of the work asked for that this job does."""
        mine = 1.0 if self.completeness is None else self.completeness.share(departure)
        return mine * self.devices.share(departure)

    def candidates(self, now_s: float) -> Sequence[int]:
        """Return the clients that are up, ascending."""
        if self._attendance is None:
            return range(self._num_clients)
        return self._attendance.up(now_s)  # type: ignore[return-value] # an array of ints is a sequence of them

    def next_up_s(self, now_s: float) -> float | None:
        """Return when the next client comes; None if none does within a month."""
        return None if self._attendance is None else self._attendance.next_up_s(now_s)

    def device(self, client: int) -> str:
        """Return the name of the client's device class."""
        return self.devices.device(client)

    def fits(self, client: int, cost: Cost) -> bool:
        """Return whether the device has the memory."""
        return self.devices.fits(client, cost)

    def energy_j(self, client: int, work: Work) -> float:
        """Return the joules of this work; a slower device is taken to spend the same on it."""
        return self.devices.energy_j(client, work)

    def describe(self) -> list[FleetRow]:
        """Return the devices' table."""
        return self.devices.describe()

    def changes(self) -> dict[str, str]:
        """Return what every axis that is there follows."""
        axes = {
            "availability": self.availability,
            "connectivity": [self.connectivity],
            "completeness": [self.completeness],
            "responsiveness": self.responsiveness,
        }
        told = {name: [_told(part) for part in parts if part is not None] for name, parts in axes.items()}  # type: ignore[attr-defined]
        return {name: ", ".join(parts) for name, parts in told.items() if parts}

    def _slowdown(self, client: int, now_s: float) -> Slowdown:
        total = Slowdown()
        for part in self.responsiveness:
            total = total * part.slowdown(client, now_s)
        return total


def _slowed(timing: Timing, by: Slowdown) -> Timing:
    return Timing(timing.download_s * by.transfer, timing.compute_s * by.compute, timing.upload_s * by.transfer)


def _as_list(value: _Part | list[_Part] | None) -> list[_Part]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def _told(part: object) -> str:
    """Return a part as its constructor would be called."""
    settings = {name: value for name, value in vars(part).items() if not name.startswith("_") and value is not None}
    said = [f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in settings.items()]
    return f"{type(part).__name__}({', '.join(said)})"
