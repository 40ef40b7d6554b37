"""What happens to the running statistics of normalisation layers, in clients and before an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, final

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from fedlight.core.slots import NormPolicy
from fedlight.core.types import ClientData, Job
from fedlight.errors import ConfigError


@final
class RunningStatistics(NormPolicy):
    """Clients update running statistics as they train, and the server averages those of the round's widest submodels.

    The widest are those of the smallest ratio among the updates that count: one that is refused (it held NaN) or
    weighs 0 leaves the statistics to the next widest.

    A unit of a thin network sees only some of its inputs, so its statistics are wrong for the full one, and the more so
    the deeper it sits. Where all train the full model, all count. Statistics of units that the widest lack stay as they
    are. Integer buffers (the count of batches) are left alone: they would be truncated.
    """

    travels = True

    def rank(self, job: Job) -> float:
        """Return the pruning ratio."""
        return job.ratio

    def prepare(self, module: nn.Module) -> None:
        """Leave the module as it is."""

    def before_evaluation(
        self, module: nn.Module, server_data: ClientData | None, forward: Callable[[Any], None]
    ) -> None:
        """Leave the module as it is: the averaged statistics are used."""


@final
class StaticStatistics(NormPolicy):
    """Static batch normalisation: clients track nothing, the server estimates the statistics anew before evaluating.

    Clients normalise by the statistics of the batch. Before every evaluation one epoch of the server's own examples
    goes through the global model, whose running mean and variance become the plain mean over its batches; only the
    normalisation layers are in training mode for that, so dropout is off.
    Source: Diao et al. 2021 (HeteroFL), section 3, who take the union of all clients' training data instead.
    """

    travels = False

    def check(self, module: nn.Module, server_data: ClientData | None) -> None:
        """Raise ConfigError if there are layers to estimate and the server holds no data."""
        if server_data is None and any(True for _ in _normalisation_layers(module)):
            raise ConfigError(
                "StaticStatistics needs examples that the server holds, and it holds none: set data.server_fraction "
                "above 0 (0.02, say), or choose fedlight.parts.norm.RunningStatistics as norm"
            )

    def prepare(self, module: nn.Module) -> None:
        """Stop tracking."""
        _stop_tracking(module)

    def before_evaluation(
        self, module: nn.Module, server_data: ClientData | None, forward: Callable[[Any], None]
    ) -> None:
        """Estimate the running statistics on ``server_data``; raises as :meth:`check` does."""
        self.check(module, server_data)
        layers = list(_normalisation_layers(module))
        if not layers or server_data is None:
            return
        modes = [(part, part.training) for part in module.modules()]
        tracking = [(layer, layer.track_running_stats, layer.momentum) for layer in layers]
        module.eval()
        for layer in layers:
            layer.train()
            layer.track_running_stats = True
            layer.reset_running_stats()
            layer.momentum = None  # the mean over all batches instead of a moving one
        try:
            for batch in server_data.epoch(torch.Generator().manual_seed(0)):
                forward(batch)
        finally:
            for part, mode in modes:
                part.training = mode
            for layer, tracks, momentum in tracking:
                layer.track_running_stats, layer.momentum = tracks, momentum


@final
class BatchStatistics(NormPolicy):
    """Normalises by the statistics of the batch, in training and in evaluation; running statistics are not used.

    Results of an evaluation depend on its batch size. FedRolex (Alam et al. 2022) evaluates in this way.
    """

    travels = False

    def prepare(self, module: nn.Module) -> None:
        """Stop tracking."""
        _stop_tracking(module)

    def before_evaluation(
        self, module: nn.Module, server_data: ClientData | None, forward: Callable[[Any], None]
    ) -> None:
        """Let normalisation layers use the batch; the module must be in evaluation mode already."""
        _stop_tracking(module)
        for layer in _normalisation_layers(module):
            layer.train()


def _normalisation_layers(module: nn.Module) -> Iterator[_NormBase]:
    for layer in module.modules():
        if isinstance(layer, _NormBase) and layer.running_mean is not None:
            yield layer


def _stop_tracking(module: nn.Module) -> None:
    for layer in _normalisation_layers(module):
        layer.track_running_stats = False
        layer.momentum = 0.0  # InstanceNorm would update them all the same
