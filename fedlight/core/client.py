"""One client's share of a round, as a pure function of its task."""

from __future__ import annotations

from collections.abc import Mapping

import lightning.pytorch as pl
import torch
from torch import Tensor

from fedlight.core.isolation import isolated_module, isolated_randomness
from fedlight.core.seeds import derive_seed
from fedlight.core.slots import LocalResult
from fedlight.core.types import ClientData, ClientTask, State, Update
from fedlight.errors import CheckpointError, DataError


def run_client(task: ClientTask, module: pl.LightningModule, data: ClientData) -> Update:
    """Train one client and return its update Δ = θ_end - θ_start, in the shape of its submodel.

    A pure function: all randomness derives from the task, the global generators are left as they were found, and so
    is the module but for the values of its parameters and buffers, which the next task overwrites. ``abs_change`` is
    |Δ|, taken before compression.

    Args:
        task: what to train from, and how.
        module: a module of the submodel's shape, on the device to train on; it shares no memory with the weights.
        data: the client's own examples.

    Raises:
        CheckpointError: the task's weights don't fit the module.
        DataError: the client has no examples, or a single one of which batch normalisation has no variance.
        UnsupportedClientError: the module asks for what the local loop doesn't have.
    """
    if data.num_examples == 0:
        raise DataError(f"client {task.client} has no training examples: leave it out of the cohort, or give it some")
    seed = derive_seed(task.seed, task.round_idx, task.client, "training")
    device = next(module.parameters()).device
    with isolated_randomness(seed, device), isolated_module(module), torch.enable_grad():
        if not module.training:
            module.train()
        trainable = _load(task, module)
        task.norm.prepare(module)
        try:
            result = task.local.fit(module, data, task)
        except ValueError as error:
            if not str(error).startswith("Expected more than 1 value per channel"):
                raise
            raise _no_variance(task.client, data.num_examples) from error
        update = _update(task, module, trainable, result, data.num_examples)
        if task.summarise is not None:
            update.summary = task.summarise(module, data)
    return update if task.compression is None else task.compression.encode(update, task)


def _no_variance(client: int, num_examples: int) -> DataError:
    if num_examples == 1:
        what, way_out = "has 1 training example", "give every client 2 (data.partition.min_samples: 2)"
    else:
        what, way_out = "trains on batches of 1 example", "raise data.batch_size"
    return DataError(
        f"client {client} {what}, of which batch normalisation has no variance; {way_out}, or normalise each example "
        "by itself (nn.GroupNorm, nn.LayerNorm)"
    )


@torch.no_grad()
def _load(task: ClientTask, module: pl.LightningModule) -> dict[str, Tensor]:
    """Write the task's weights into the module and return its trainable parameters by name."""
    parameters = dict(module.named_parameters())
    unread = set(task.weights)
    for name, tensor in (*parameters.items(), *module.named_buffers()):
        weight = task.weights.get(name)
        if weight is None:
            if name in parameters:
                raise CheckpointError(f"{_where(task)} lack {name}: send the state dict of a module of the same class")
            continue
        if weight.shape != tensor.shape:
            raise CheckpointError(
                f"{_where(task)}: {name} has shape {tuple(weight.shape)}, the module's has {tuple(tensor.shape)}; "
                "build the module from the same keep set"
            )
        tensor.copy_(weight)
        unread.discard(name)
    # A tensor with two names is listed once by the module and twice in its state dict.
    if unread and unread - set(module.state_dict()):
        raise CheckpointError(f"{_where(task)} hold {min(unread)}, which the module has not: build it anew")
    for name, mask in (task.masks or {}).items():
        parameters[name].masked_fill_(~mask, 0)
    return {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}


@torch.no_grad()
def _update(
    task: ClientTask,
    module: pl.LightningModule,
    trainable: Mapping[str, Tensor],
    result: LocalResult,
    num_examples: int,
) -> Update:
    delta = {name: parameter - task.weights[name] for name, parameter in trainable.items()}
    num_entries = {name: value.numel() for name, value in delta.items()}
    for name, mask in (task.masks or {}).items():
        if name in delta:
            delta[name].masked_fill_(~mask, 0)
            num_entries[name] = int(mask.sum())
    buffers: State = {}
    if task.norm.travels:
        buffers = {
            name: buffer - task.weights[name]
            for name, buffer in module.named_buffers()
            if name in task.weights and buffer.is_floating_point()
        }
    statistics = dict(result.statistics)
    if "abs_change" in task.statistics:
        statistics["abs_change"] = {name: value.abs() for name, value in delta.items()}
    num_bytes = sum(num_entries[name] * value.element_size() for name, value in delta.items())
    num_bytes += sum(value.nbytes for value in buffers.values())
    return Update(
        client=task.client,
        num_examples=num_examples,
        num_steps=result.num_steps,
        delta=delta,
        buffers=buffers,
        statistics=statistics,
        metrics=result.metrics,
        upload_bytes=num_bytes,
        labels=result.labels,
    )


def _where(task: ClientTask) -> str:
    return f"the weights sent to client {task.client} in round {task.round_idx}"
