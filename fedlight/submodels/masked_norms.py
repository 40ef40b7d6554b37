"""Norms that mix channels, written out over the kept channels alone: what the full model's would be in a submodel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode


@contextmanager
def norms_over(masks: dict[nn.Module, Tensor]) -> Iterator[None]:
    """Make the norms of these layers run over their kept channels alone, whatever else their forwards do."""
    running: list[nn.Module] = []

    def enter(layer: nn.Module, args: Any) -> None:
        running.append(layer)

    def leave(layer: nn.Module, args: Any, output: Any) -> None:
        running.pop()

    hooks = []
    for layer in masks:
        hooks.append(layer.register_forward_pre_hook(enter))
        hooks.append(layer.register_forward_hook(leave))
    try:
        with _MaskedNorms(masks, running):
            yield
    finally:
        for hook in hooks:
            hook.remove()


class _MaskedNorms(TorchFunctionMode):
    def __init__(self, masks: dict[nn.Module, Tensor], running: list[nn.Module]) -> None:
        super().__init__()
        self._masks = masks
        self._running = running

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        masked = _MASKED.get(func)
        if masked is None or not self._running:
            return func(*args, **(kwargs or {}))
        return masked(self._masks[self._running[-1]], *args, **(kwargs or {}))


def _masked_layer_norm(
    mask: Tensor,
    input: Tensor,  # noqa: A002 - the name that torch gives it
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    kept = input[..., mask]
    mean, variance = kept.mean(-1, keepdim=True), kept.var(-1, correction=0, keepdim=True)
    return _affine((input - mean) / (variance + eps).sqrt(), weight, bias)


def _masked_rms_norm(
    mask: Tensor,
    input: Tensor,  # noqa: A002 - the name that torch gives it
    normalized_shape: Any,
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    square = input[..., mask].pow(2).mean(-1, keepdim=True)
    return _affine(input / (square + (torch.finfo(input.dtype).eps if eps is None else eps)).sqrt(), weight, None)


def _masked_group_norm(
    mask: Tensor,
    input: Tensor,  # noqa: A002 - the name that torch gives it
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    normed = torch.empty_like(input)
    for group in torch.arange(input.shape[1]).chunk(num_groups):
        kept = input[:, group[mask[group]]].flatten(1)
        shape = (-1,) + (1,) * (input.dim() - 1)
        mean, variance = kept.mean(1).view(shape), kept.var(1, correction=0).view(shape)
        normed[:, group] = (input[:, group] - mean) / (variance + eps).sqrt()
    return _affine(normed.movedim(1, -1), weight, bias).movedim(-1, 1)


def _affine(normed: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    scaled = normed if weight is None else normed * weight
    return scaled if bias is None else scaled + bias


_MASKED: dict[Any, Callable[..., Tensor]] = {
    functional.layer_norm: _masked_layer_norm,
    functional.rms_norm: _masked_rms_norm,
    functional.group_norm: _masked_group_norm,
}
