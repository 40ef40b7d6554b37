"""The choices for every slot of an algorithm."""

from fedlight.parts.aggregation import CoverageMean, ResidualRecovery
from fedlight.parts.compression import NoCompression
from fedlight.parts.contribution import CosineGradient, SampleCount, Uniform
from fedlight.parts.extraction import Channels, Weights
from fedlight.parts.importance import AbsoluteChange, ClientStatistic, Magnitude, PrefixOrder, RandomOrder
from fedlight.parts.local import LeanLoop, TrainerLoop
from fedlight.parts.norm import BatchStatistics, RunningStatistics, StaticStatistics
from fedlight.parts.ratio import DiscountedUCB, Fixed, PerLevel, RandomRatio, SpeedAligned
from fedlight.parts.schedule import Synchronous
from fedlight.parts.selection import UniformSelection

__all__ = [
    "AbsoluteChange",
    "BatchStatistics",
    "Channels",
    "ClientStatistic",
    "CosineGradient",
    "CoverageMean",
    "DiscountedUCB",
    "Fixed",
    "LeanLoop",
    "Magnitude",
    "NoCompression",
    "PerLevel",
    "PrefixOrder",
    "RandomOrder",
    "RandomRatio",
    "ResidualRecovery",
    "RunningStatistics",
    "SampleCount",
    "SpeedAligned",
    "StaticStatistics",
    "Synchronous",
    "TrainerLoop",
    "Uniform",
    "UniformSelection",
    "Weights",
]
