"""Label smoothing over a module that knows nothing of it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from fedlight.core.patch import patched
from fedlight.errors import UnsupportedClientError

_POSITION = 7  # of label_smoothing among the arguments of cross_entropy


class SmoothedLabels(TorchFunctionMode):
    """Gives every ``cross_entropy`` in a training step its ``label_smoothing``, however the module calls it.

    Targets become (1 - ε)·onehot + ε/K (Szegedy et al. 2016, Rethinking the Inception Architecture, section 7).
    It sees ``torch.nn.functional.cross_entropy`` and ``nn.CrossEntropyLoss``, also where they are called for something
    else than the loss. Losses made of other parts (``nll_loss`` of ``log_softmax``) aren't changed, and a module that
    never calls it is refused.

    Args:
        name: class of the module, for messages.
        amount: ε.
    """

    def __init__(self, name: str, amount: float) -> None:
        super().__init__()
        self._name = name
        self._amount = amount
        self.num_calls = 0

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is functional.cross_entropy:
            if kwargs.get("label_smoothing") or any(args[_POSITION:]):
                raise UnsupportedClientError(
                    f"{self._name}.training_step smooths labels itself, and so does the local loop: leave "
                    "label_smoothing out of one of them"
                )
            args, kwargs["label_smoothing"] = args[:_POSITION], self._amount
            self.num_calls += 1
        return func(*args, **kwargs)

    def check_used(self) -> None:
        """Raise UnsupportedClientError if a training step went by without a cross-entropy."""
        if not self.num_calls:
            raise UnsupportedClientError(
                f"label_smoothing needs {self._name}.training_step to call torch.nn.functional.cross_entropy or "
                "nn.CrossEntropyLoss, which it didn't: call one of them there, or leave label_smoothing out"
            )


@contextmanager
def smoothed_labels(module: pl.LightningModule, amount: float) -> Iterator[SmoothedLabels | None]:
    """Smooth the labels in the module's ``training_step`` meanwhile; None where there is nothing to smooth."""
    if amount == 0.0:
        yield None
        return
    smoothed, step = SmoothedLabels(type(module).__name__, amount), module.training_step

    @functools.wraps(step)
    def training_step(*args: Any, **kwargs: Any) -> Any:
        with smoothed:
            return step(*args, **kwargs)

    with patched(module, training_step=training_step):
        yield smoothed
