"""Published methods, one file each: a composition of parts and every way in which it differs from its paper."""

from fedlight.algorithms.fedavg import FedAvg

__all__ = ["FedAvg"]
