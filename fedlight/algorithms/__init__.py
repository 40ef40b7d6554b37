"""Published methods, one file each: a composition of parts and every way in which it differs from its paper."""

from fedlight.algorithms.fedavg import FedAvg
from fedlight.algorithms.fedlight import FedLight
from fedlight.algorithms.heterofl import HeteroFL
from fedlight.algorithms.speedratio import SpeedRatio

__all__ = ["FedAvg", "FedLight", "HeteroFL", "SpeedRatio"]
