"""What matters: a score for every unit of the global model, or for every weight."""

from fedlight.parts.importance.absolute_change import AbsoluteChange
from fedlight.parts.importance.accumulated import AccumulatedSquares
from fedlight.parts.importance.client_statistic import ClientStatistic
from fedlight.parts.importance.entry_statistic import EntryStatistic
from fedlight.parts.importance.feature_rank import FeatureRank
from fedlight.parts.importance.magnitude import Magnitude
from fedlight.parts.importance.mixed import MixedImportance
from fedlight.parts.importance.norm_scale import NormScale
from fedlight.parts.importance.order import PrefixOrder, RandomOrder, RollingOrder
from fedlight.parts.importance.regrowth import Regrowth

__all__ = [
    "AbsoluteChange",
    "AccumulatedSquares",
    "ClientStatistic",
    "EntryStatistic",
    "FeatureRank",
    "Magnitude",
    "MixedImportance",
    "NormScale",
    "PrefixOrder",
    "RandomOrder",
    "Regrowth",
    "RollingOrder",
]
