"""What matters: a score for every unit of the global model."""

from fedlight.parts.importance.absolute_change import AbsoluteChange
from fedlight.parts.importance.client_statistic import ClientStatistic
from fedlight.parts.importance.magnitude import Magnitude
from fedlight.parts.importance.order import PrefixOrder, RandomOrder

__all__ = ["AbsoluteChange", "ClientStatistic", "Magnitude", "PrefixOrder", "RandomOrder"]
