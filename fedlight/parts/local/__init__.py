"""How a client trains: a lean loop, and a Trainer for modules that need one."""

from fedlight.parts.local.lean import LeanLoop
from fedlight.parts.local.trainer import TrainerLoop

__all__ = ["LeanLoop", "TrainerLoop"]
