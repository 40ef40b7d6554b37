"""The choices for every slot of an algorithm."""

from fedlight.parts.aggregation import CoverageMean, ResidualRecovery, StepNormalized, ZeroFill
from fedlight.parts.compression import QSGD, NoCompression, Quantized, TimeMatchedLevel, TopK
from fedlight.parts.contribution import CosineGradient, SampleCount, Uniform
from fedlight.parts.extraction import Channels, Weights
from fedlight.parts.importance import AbsoluteChange, ClientStatistic, Magnitude, PrefixOrder, RandomOrder
from fedlight.parts.local import LeanLoop, Proximal, Stragglers, TimeMatchedWork, TrainerLoop
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
from fedlight.parts.server_optimizers import FedOpt

__all__ = [
    "EUCB",
    "QSGD",
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
    "FedOpt",
    "Fixed",
    "LeanLoop",
    "Magnitude",
    "NoCompression",
    "PerClient",
    "PerLevel",
    "PrefixOrder",
    "Proximal",
    "Quantized",
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
    "StepNormalized",
    "Stragglers",
    "Synchronous",
    "Thompson",
    "TimeMatchedLevel",
    "TimeMatchedWork",
    "TopK",
    "TrainerLoop",
    "Uniform",
    "UniformSelection",
    "UnimodalUCB",
    "Weights",
    "ZeroFill",
]
