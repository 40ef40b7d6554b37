"""The choices for every slot of an algorithm."""

from fedlight.parts.aggregation import CoverageMean, ResidualRecovery
from fedlight.parts.compression import NoCompression
from fedlight.parts.contribution import CosineGradient, SampleCount, Uniform
from fedlight.parts.extraction import Channels, Weights
from fedlight.parts.importance import AbsoluteChange, ClientStatistic, Magnitude, PrefixOrder, RandomOrder
from fedlight.parts.local import LeanLoop, TrainerLoop
from fedlight.parts.norm import BatchStatistics, RunningStatistics, StaticStatistics
from fedlight.parts.ratio import (
    EUCB,
    UCB1,
    BanditPace,
    ConstantPace,
    DiscountedUCB,
    Fixed,
    PerClient,
    PerLevel,
    RandomChoice,
    Reward,
    ScheduledPace,
    Shared,
    SlidingWindowUCB,
    SpeedAligned,
    StagnationPace,
    Thompson,
    UnimodalUCB,
)
from fedlight.parts.schedule import Synchronous
from fedlight.parts.selection import UniformSelection

__all__ = [
    "EUCB",
    "UCB1",
    "AbsoluteChange",
    "BanditPace",
    "BatchStatistics",
    "Channels",
    "ClientStatistic",
    "ConstantPace",
    "CosineGradient",
    "CoverageMean",
    "DiscountedUCB",
    "Fixed",
    "LeanLoop",
    "Magnitude",
    "NoCompression",
    "PerClient",
    "PerLevel",
    "PrefixOrder",
    "RandomChoice",
    "RandomOrder",
    "ResidualRecovery",
    "Reward",
    "RunningStatistics",
    "SampleCount",
    "ScheduledPace",
    "Shared",
    "SlidingWindowUCB",
    "SpeedAligned",
    "StagnationPace",
    "StaticStatistics",
    "Synchronous",
    "Thompson",
    "TrainerLoop",
    "Uniform",
    "UniformSelection",
    "UnimodalUCB",
    "Weights",
]
