"""Fleets: which devices the clients are, how long work takes on them, and how they change over time."""

from fedlight.core.fleet import FleetRow
from fedlight.fleet.availability import AllOf, AlwaysUp, Availability
from fedlight.fleet.background_load import BackgroundLoad
from fedlight.fleet.changing_fleet import ChangingFleet
from fedlight.fleet.completeness import Completeness, PartialWork
from fedlight.fleet.connectivity import Connectivity, Drops
from fedlight.fleet.daily import Daily
from fedlight.fleet.device_fleet import DeviceClass, DeviceFleet, largest_remainder
from fedlight.fleet.devices import Devices, training_bytes
from fedlight.fleet.drift import Drift
from fedlight.fleet.join_leave import JoinLeave
from fedlight.fleet.ready import High, Homogeneous, JetsonTX2, Phones, RaspberryJetson, ThreeTier
from fedlight.fleet.responsiveness import Responsiveness, Slowdown
from fedlight.fleet.speed_step import SpeedStep

__all__ = [
    "AllOf",
    "AlwaysUp",
    "Availability",
    "BackgroundLoad",
    "ChangingFleet",
    "Completeness",
    "Connectivity",
    "Daily",
    "DeviceClass",
    "DeviceFleet",
    "Devices",
    "Drift",
    "Drops",
    "FleetRow",
    "High",
    "Homogeneous",
    "JetsonTX2",
    "JoinLeave",
    "PartialWork",
    "Phones",
    "RaspberryJetson",
    "Responsiveness",
    "Slowdown",
    "SpeedStep",
    "ThreeTier",
    "largest_remainder",
    "training_bytes",
]
