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
from fedlight.fleet.distributions import Constant, Distribution, LogNormal, Pareto, Uniform, Zipf
from fedlight.fleet.drawn_fleet import DrawnFleet
from fedlight.fleet.drift import Drift
from fedlight.fleet.join_leave import JoinLeave
from fedlight.fleet.published import AdaptiveFLBoards, AutoFLPhones, FedGMRLinks, FedGMRTiers
from fedlight.fleet.ready import EdgeBoards, High, Homogeneous, JetsonTX2, Phones, RaspberryJetson, ThreeTier
from fedlight.fleet.responsiveness import Responsiveness, Slowdown
from fedlight.fleet.speed_step import SpeedStep
from fedlight.fleet.steady_fleet import SteadyFleet
from fedlight.fleet.trace_availability import TraceAvailability
from fedlight.fleet.trace_fleet import TraceFleet

__all__ = [
    "AdaptiveFLBoards",
    "AllOf",
    "AlwaysUp",
    "AutoFLPhones",
    "Availability",
    "BackgroundLoad",
    "ChangingFleet",
    "Completeness",
    "Connectivity",
    "Constant",
    "Daily",
    "DeviceClass",
    "DeviceFleet",
    "Devices",
    "Distribution",
    "DrawnFleet",
    "Drift",
    "Drops",
    "EdgeBoards",
    "FedGMRLinks",
    "FedGMRTiers",
    "FleetRow",
    "High",
    "Homogeneous",
    "JetsonTX2",
    "JoinLeave",
    "LogNormal",
    "Pareto",
    "PartialWork",
    "Phones",
    "RaspberryJetson",
    "Responsiveness",
    "Slowdown",
    "SpeedStep",
    "SteadyFleet",
    "ThreeTier",
    "TraceAvailability",
    "TraceFleet",
    "Uniform",
    "Zipf",
    "largest_remainder",
    "training_bytes",
]
