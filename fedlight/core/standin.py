"""What ``module.trainer`` is while no Trainer is there."""

from __future__ import annotations

from typing import Any

from fedlight.errors import UnsupportedClientError


class NoTrainer:
    """Answers what a loop without a Trainer knows, as a Trainer in one process would, and refuses the rest by name.

    Args:
        module_name: class of the client's module, for the message.
        reason: why there is no Trainer, and the way out.

    Attributes:
        current_epoch: local epoch of this round, counted from 0.
        global_step: optimizer steps of this client in this round.
    """

    def __init__(self, module_name: str, reason: str) -> None:
        self._module_name = module_name
        self._reason = reason
        self.current_epoch = 0
        self.global_step = 0
        self.global_rank = 0
        self.local_rank = 0
        self.world_size = 1
        self.is_global_zero = True
        self.training = True
        self.sanity_checking = False
        self.logger = None
        self.loggers: list[Any] = []
        self.progress_bar_callback = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise UnsupportedClientError(f"{self._module_name} uses self.trainer.{name}, but {self._reason}")
