"""What keeps one client's training from touching the next one's, or the run around it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torchmetrics import Metric


@contextmanager
def isolated_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators of torch, NumPy and Python, and put them back as they were at the end.

    Args:
        seed: seed in [0, 2**63).
        device: torch device that is trained on; its generator is among them.
    """
    torch_state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()
    cuda_state = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    # torch.manual_seed would also queue a seed for every accelerator, which costs more than all the rest.
    torch.default_generator.manual_seed(seed)
    if cuda_state is not None:
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        np.random.set_state(numpy_state)
        random.setstate(python_state)
        if cuda_state is not None:
            torch.cuda.set_rng_state(cuda_state, device)


@contextmanager
def isolated_module(module: nn.Module) -> Iterator[None]:
    """Keep the module from meeting other processes, and put it back as it was at the end.

    All is put back but the values of parameters and persistent buffers: the mode and the attributes of every submodule
    (also the contents of plain lists, dicts and sets, one level deep), hooks, links to a Trainer, replaced layers and
    buffers, ``requires_grad``, gradients, and the values of buffers outside the state dict. Metrics are reset, and
    don't synchronise meanwhile: each process trains other clients.
    """
    parts = list(module.modules())
    metrics = [part for part in parts if isinstance(part, Metric)]
    trainable = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    local_buffers = [(buffer, buffer.clone()) for part in parts for buffer in _buffers_outside_state(part)]
    undo = [_remember(part) for part in parts]
    for metric in metrics:
        metric.distributed_available_fn = _alone
    try:
        yield
    finally:
        used = [metric for metric in metrics if metric.update_called]
        for part, attributes, containers in undo:
            part.__dict__.clear()
            part.__dict__.update(attributes)
            for container, content in containers:
                _refill(container, content)
        for parameter, requires_grad in trainable:
            parameter.requires_grad_(requires_grad)
            parameter.grad = None
        with torch.no_grad():
            for buffer, value in local_buffers:
                buffer.copy_(value)
        for metric in used:
            metric.reset()


def _alone() -> bool:
    return False


def _remember(part: nn.Module) -> tuple[nn.Module, dict[str, Any], list[tuple[Any, Any]]]:
    attributes = dict(part.__dict__)
    containers = [(value, value.copy()) for value in attributes.values() if isinstance(value, (dict, list, set))]
    return part, attributes, containers


def _refill(container: Any, content: Any) -> None:
    if isinstance(container, list):
        container[:] = content
    elif container or content:
        container.clear()
        container.update(content)


def _buffers_outside_state(part: nn.Module) -> list[torch.Tensor]:
    return [buffer for name in part._non_persistent_buffers_set if (buffer := part._buffers.get(name)) is not None]
