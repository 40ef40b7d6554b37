"""How fast a round shall be: one decision for all clients."""

from fedlight.parts.ratio.pace.bandit import BanditPace
from fedlight.parts.ratio.pace.constant import ConstantPace
from fedlight.parts.ratio.pace.pace import Pace, Tempo
from fedlight.parts.ratio.pace.scheduled import ScheduledPace
from fedlight.parts.ratio.pace.stagnation import StagnationPace

__all__ = ["BanditPace", "ConstantPace", "Pace", "ScheduledPace", "StagnationPace", "Tempo"]
