"""The copy of a model that is traced: layers that hold units inside are replaced by plain ones of the same widths."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.utils.rnn import PackedSequence

from fedlight.errors import UnsupportedModelError
from fedlight.submodels.inputs import first_line
from fedlight.submodels.layers import is_attention, rule_of

_BATCH_NORMS = {
    nn.InstanceNorm1d: nn.BatchNorm1d,
    nn.InstanceNorm2d: nn.BatchNorm2d,
    nn.InstanceNorm3d: nn.BatchNorm3d,
}


def traceable_copy(module: nn.Module) -> tuple[nn.Module, dict[nn.Module, str]]:
    """Copy a model to the CPU in float32 with every tensor that gradients can flow to, and stand-ins in place.

    The heads of an attention and the hidden units of a recurrent layer follow rules of their own, and what happens
    inside (rotations, cuDNN, scaled dot products) only confuses the tracer: outside, both are linear layers.

    Args:
        module: left as it is.

    Returns:
        the copy, and the name of every layer in it that holds channels (a stand-in's is that of what it stands for).

    Raises:
        UnsupportedModelError: the model can't be copied.
    """
    try:
        copied = copy.deepcopy(module).to("cpu", torch.float32)
    except Exception as error:
        raise UnsupportedModelError(
            f"{type(module).__name__} can't be copied ({first_line(error)}): "
            "keep what copy.deepcopy can't handle (open files, generators, graphs) out of its attributes"
        ) from error
    names: dict[nn.Module, str] = {}
    within: tuple[str, ...] = ()  # what a stand-in has replaced
    for name, layer in list(copied.named_modules()):
        if name.startswith(within):
            continue
        if is_attention(layer):
            within += (f"{name}.",) if name else ("",)
            copied = _put(copied, name, linear := _AttentionStandIn(layer))
            names[linear] = name
        elif isinstance(layer, nn.RNNBase):
            copied = _put(copied, name, stand_in := _RecurrentStandIn(layer))
            names[stand_in.cell] = name
        elif isinstance(layer, nn.RMSNorm):
            copied = _put(copied, name, norm := nn.LayerNorm(layer.normalized_shape, elementwise_affine=False))
            names[norm] = name
        elif isinstance(layer, _InstanceNorm):
            # Its own reshape to one long batch looks like channels that are flattened away.
            copied = _put(copied, name, stand_in_norm := _batch_norm_like(layer))
            names[stand_in_norm] = name
        elif rule_of(layer) is not None:
            names[layer] = name
        else:
            _let_gradients_reach_buffers(layer)
    return copied.requires_grad_(True).eval(), names


def _batch_norm_like(layer: _InstanceNorm) -> nn.Module:
    of_dims = next(found for kind, found in _BATCH_NORMS.items() if isinstance(layer, kind))
    return of_dims(layer.num_features)


class _AttentionStandIn(nn.Linear):
    def __init__(self, attention: Any) -> None:
        stream = attention.qkv if getattr(attention, "qkv", None) is not None else attention.q_proj
        super().__init__(stream.in_features, attention.out_proj.out_features)

    def forward(self, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: A002 - as in nn.Linear
        return super().forward(input)


class _RecurrentStandIn(nn.Module):
    """Maps inputs to hidden states step by step, and hands out final states of the right shape."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.directions = 2 if layer.bidirectional else 1
        width = (layer.proj_size or layer.hidden_size) * self.directions
        self.cell = nn.Linear(layer.input_size, width)
        self.num_states = layer.num_layers * self.directions
        self.is_lstm = isinstance(layer, nn.LSTM)
        self.time_dim = 1 if layer.batch_first else 0
        self.hidden_size = layer.hidden_size
        self.num_layers = layer.num_layers
        self.batch_first = layer.batch_first
        self.bidirectional = layer.bidirectional

    def forward(self, sequence: Any, state: Any = None) -> Any:
        if isinstance(sequence, PackedSequence):
            data = self.cell(sequence.data)
            output: Any = sequence._replace(data=data)
            last = torch.stack([data.mean(0)] * int(sequence.batch_sizes[0]))
        else:
            output = self.cell(sequence)
            last = output.mean(self.time_dim if output.dim() == 3 else 0)
        if self.directions == 2:  # final states are one per direction, half as wide
            last = last[..., : last.shape[-1] // 2]
        final = torch.stack([last] * self.num_states)
        return output, ((final, final) if self.is_lstm else final)


def _put(root: nn.Module, name: str, layer: nn.Module) -> nn.Module:
    if not name:
        return layer
    root.set_submodule(name, layer)
    return root


def _let_gradients_reach_buffers(layer: nn.Module) -> None:
    """Make buffers parameters, such as tables of positions that are added to a stream: the tracer sees only those."""
    for name, buffer in list(layer.named_buffers(recurse=False)):
        if buffer.is_floating_point() and buffer.numel() > 1:
            delattr(layer, name)
            layer.register_parameter(name, nn.Parameter(buffer))
