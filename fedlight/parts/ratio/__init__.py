"""How much is removed."""

from fedlight.parts.ratio.discounted_ucb import DiscountedUCB
from fedlight.parts.ratio.fixed import Fixed, PerLevel, RandomRatio
from fedlight.parts.ratio.speed_aligned import SpeedAligned

__all__ = ["DiscountedUCB", "Fixed", "PerLevel", "RandomRatio", "SpeedAligned"]
