"""How much is removed."""

from fedlight.parts.ratio.bandits import EUCB, UCB1, DiscountedUCB, SlidingWindowUCB, Thompson, UnimodalUCB
from fedlight.parts.ratio.fixed import Fixed, FromRound, PerLevel, RandomChoice
from fedlight.parts.ratio.pace import BanditPace, ConstantPace, ScheduledPace, StagnationPace
from fedlight.parts.ratio.per_client import PerClient
from fedlight.parts.ratio.reward import Reward
from fedlight.parts.ratio.shared import Shared
from fedlight.parts.ratio.speed_aligned import SpeedAligned
from fedlight.parts.ratio.unaligned import Unaligned

__all__ = [
    "EUCB",
    "UCB1",
    "BanditPace",
    "ConstantPace",
    "DiscountedUCB",
    "Fixed",
    "FromRound",
    "PerClient",
    "PerLevel",
    "RandomChoice",
    "Reward",
    "ScheduledPace",
    "Shared",
    "SlidingWindowUCB",
    "SpeedAligned",
    "StagnationPace",
    "Thompson",
    "Unaligned",
    "UnimodalUCB",
]
