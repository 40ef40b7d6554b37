"""Fleets: which devices the clients are, and how long work takes on them."""

from fedlight.fleet.device_fleet import DeviceClass, DeviceFleet, FleetRow, largest_remainder
from fedlight.fleet.ready import High, Homogeneous, JetsonTX2, Phones, RaspberryJetson, ThreeTier

__all__ = [
    "DeviceClass",
    "DeviceFleet",
    "FleetRow",
    "High",
    "Homogeneous",
    "JetsonTX2",
    "Phones",
    "RaspberryJetson",
    "ThreeTier",
    "largest_remainder",
]
