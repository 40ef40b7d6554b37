"""What a client's module logs while it trains."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from operator import add
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch.utilities.data import extract_batch_size
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from fedlight.errors import UnsupportedClientError

_REDUCTIONS: dict[Any, str] = {
    "mean": "mean", torch.mean: "mean", "sum": "sum", torch.sum: "sum", sum: "sum",
    "max": "max", torch.max: "max", max: "max", "min": "min", torch.min: "min", min: "min",
}  # fmt: skip
_LOSS = "train/loss"


class Records:
    """Takes the calls of ``self.log`` and boils them down to one number per name and round.

    A logged value counts with the examples of its batch, over all local steps; ``on_step`` and ``on_epoch`` make no
    difference (a round is one point on the server's axis), and with ``logger=False`` nothing is kept.
    A logged torchmetrics object is computed at the end of every epoch and reset; epochs count with their examples.
    ``train/loss`` is always there: the mean of what ``training_step`` returned, unless the module logs that name.

    Args:
        then: what else is called with the arguments of every ``self.log``.
    """

    def __init__(self, then: Callable[..., None] | None = None) -> None:
        self._then = then
        self._totals: dict[str, tuple[Any, float]] = {}
        self._reductions: dict[str, str] = {}
        self._metrics: dict[str, Metric | MetricCollection] = {}
        self._losses: tuple[Any, float] = (0.0, 0.0)  # sum, examples
        self._batch: Any = None
        self._batch_size: int | None = None
        self._epoch_examples = 0

    def begin_batch(self, batch: Any) -> None:
        """Note the batch that the next values are of; None between epochs."""
        self._batch = batch
        self._batch_size = None

    def log(
        self,
        name: str,
        value: Any,
        prog_bar: bool = False,
        logger: bool | None = None,
        on_step: bool | None = None,
        on_epoch: bool | None = None,
        reduce_fx: Any = "mean",
        enable_graph: bool = False,
        sync_dist: bool = False,
        sync_dist_group: Any = None,
        add_dataloader_idx: bool = True,
        batch_size: int | None = None,
        metric_attribute: str | None = None,
        rank_zero_only: bool = False,
    ) -> None:
        """Stand in for ``LightningModule.log``."""
        if self._then is not None:
            self._then(
                name,
                value,
                prog_bar=prog_bar,
                logger=logger,
                on_step=on_step,
                on_epoch=on_epoch,
                reduce_fx=reduce_fx,
                enable_graph=enable_graph,
                add_dataloader_idx=add_dataloader_idx,
                batch_size=batch_size,
                metric_attribute=metric_attribute,
            )
        if logger is False:
            return
        if isinstance(value, Metric | MetricCollection):
            if self._batch is not None:
                self._metrics[name] = value
                return
            value = value.compute()
        self._add(name, value, batch_size, reduce_fx)

    def end_epoch(self, reset: bool) -> None:
        """Take the values of the logged metrics; ``reset`` them unless the Trainer will."""
        for name, metric in self._metrics.items():
            self._add(name, metric.compute(), max(1, self._epoch_examples), "mean")
            if reset:
                metric.reset()
        self._metrics.clear()
        self._epoch_examples = 0
        self.begin_batch(None)

    def end_batch(self, outputs: Any, scale: float = 1.0) -> None:
        """Count the batch, if metrics were logged in it, and ``scale`` times the loss of ``outputs``."""
        if self._metrics:
            self._epoch_examples += self._size()
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else None
        if loss is None or _LOSS in self._totals or _LOSS in self._metrics:
            return
        total, num_examples = self._losses
        size = self._size_or_one()
        self._losses = total + _number(_LOSS, loss) * (scale * size), num_examples + size

    def results(self) -> dict[str, float]:
        """Return one number per name, in the order in which they were first logged."""
        results = {
            name: float(total / weight if self._reductions[name] == "mean" else total)
            for name, (total, weight) in self._totals.items()
        }
        total, num_examples = self._losses
        return {_LOSS: float(total / num_examples), **results} if num_examples else results

    def _add(self, name: str, value: Any, batch_size: int | None, reduce_fx: Any) -> None:
        reduction = _REDUCTIONS.get(reduce_fx)
        if reduction is None:
            raise UnsupportedClientError(f"self.log({name!r}) has reduce_fx={reduce_fx!r}: use mean, sum, max or min")
        number = _number(name, value)
        if reduction == "mean":
            weight = float(self._size() if batch_size is None else batch_size)
            number = number * weight
        else:
            weight = 1.0
        self._reductions[name] = reduction
        if name in self._totals:
            before, weight_before = self._totals[name]
            join = {"max": max, "min": min}.get(reduction, add)
            number, weight = join(before, number), weight_before + weight
        self._totals[name] = (number, weight)

    def _size(self) -> int:
        if self._batch_size is None:
            self._batch_size = 1 if self._batch is None else extract_batch_size(self._batch)
        return self._batch_size

    def _size_or_one(self) -> int:
        """Return the examples of the batch, 1 where that can't be told: nobody asked for its size."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PossibleUserWarning)  # several sizes to choose from
                return self._size()
        except MisconfigurationException:
            return 1


def _number(name: str, value: Any) -> Any:
    """Return a float, or a tensor on an accelerator, which a float would make wait."""
    if isinstance(value, Tensor):
        if value.numel() != 1:
            shape = tuple(value.shape)
            raise UnsupportedClientError(
                f"self.log({name!r}) got a tensor of shape {shape}: log one number, for example its mean"
            )
        return value.item() if value.device.type == "cpu" else value.detach().reshape(()).clone()
    if isinstance(value, Mapping):
        raise UnsupportedClientError(f"self.log({name!r}) got a dict: use self.log_dict")
    return float(value)
