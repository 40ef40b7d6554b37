"""When the server moves."""

from fedlight.parts.schedule.buffered import Buffered
from fedlight.parts.schedule.staleness import Constant, Hinge, Polynomial, Staleness
from fedlight.parts.schedule.synchronous import Synchronous

__all__ = ["Buffered", "Constant", "Hinge", "Polynomial", "Staleness", "Synchronous"]
