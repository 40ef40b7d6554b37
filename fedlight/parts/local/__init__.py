"""How a client trains: a lean loop, and a Trainer for modules that need one."""

from fedlight.parts.local.lean import LeanLoop
from fedlight.parts.local.proximal import Proximal
from fedlight.parts.local.recipe_loop import RecipeLoop
from fedlight.parts.local.trainer import TrainerLoop
from fedlight.parts.local.work import EqualWork, LocalWork, Stragglers, TimeMatchedWork

__all__ = [
    "EqualWork",
    "LeanLoop",
    "LocalWork",
    "Proximal",
    "RecipeLoop",
    "Stragglers",
    "TimeMatchedWork",
    "TrainerLoop",
]
