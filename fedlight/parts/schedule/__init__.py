"""When the server moves."""

from fedlight.parts.schedule.buffered import Buffered
from fedlight.parts.schedule.deadline import Deadline
from fedlight.parts.schedule.fixed_fraction import FixedFraction
from fedlight.parts.schedule.over_selection import OverSelection
from fedlight.parts.schedule.staleness import Constant, Hinge, Polynomial, Staleness
from fedlight.parts.schedule.synchronous import Synchronous, synchronous_or

__all__ = [
    "Buffered",
    "Constant",
    "Deadline",
    "FixedFraction",
    "Hinge",
    "OverSelection",
    "Polynomial",
    "Staleness",
    "Synchronous",
    "synchronous_or",
]
