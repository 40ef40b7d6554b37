"""Which tensors hold one row per output of a model, found by gradients and not by names."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from fedlight.submodels.check import random_copy
from fedlight.submodels.inputs import Call, ExampleInputs
from fedlight.submodels.structure import Structure


def output_rows(module: nn.Module, structure: Structure, example_inputs: ExampleInputs) -> tuple[str, ...]:
    """Find the parameters whose row c acts on output c alone: ∂ Σ output[..., c] / ∂ θ is 0 outside row c, not in it.

    A classifier's last weight and bias, for example; not an embedding that is tied to them, since its rows act on all
    outputs. Asked for the first, the middle and the last c, in eval mode at random weights, frozen ones included.

    Args:
        module: the full model; it is left as it is.
        structure: what tracing found; a parameter whose rows can be dropped is left out.
        example_inputs: as for tracing.

    Returns:
        names of parameters, in the order of the module. Empty where the forward doesn't return one float tensor
        [batch, ..., num_outputs] of two outputs or more, where outputs mix behind the last layer (softmax), and where
        the model can't be copied or differentiated.
    """
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), torch.enable_grad():
            warnings.simplefilter("ignore")
            torch.default_generator.manual_seed(0)  # torch.manual_seed would seed GPUs too
            copied = random_copy(module, torch.float32).requires_grad_(True)
            found = _found(copied, Call.of(example_inputs).floats(torch.float32).map(_noisy))
    except Exception:  # whether such a model can be cut at all is for the tracer to say
        return ()
    return tuple(name for name in found if not _has_units(structure, name))


def _found(module: nn.Module, call: Call) -> list[str]:
    output = call.run(module)
    if not isinstance(output, Tensor) or output.ndim < 2 or output.shape[-1] < 2:
        return []
    num_outputs = output.shape[-1]
    rows = {name: p for name, p in module.named_parameters() if p.ndim and len(p) == num_outputs}
    for c in sorted({0, num_outputs // 2, num_outputs - 1}):
        if not rows:
            break
        slopes = torch.autograd.grad(output[..., c].sum(), list(rows.values()), retain_graph=True, allow_unused=True)
        rows = {name: p for (name, p), slope in zip(rows.items(), slopes, strict=True) if _touched(slope) == [c]}
    return list(rows)


def _touched(slope: Tensor | None) -> list[int]:
    return [] if slope is None else torch.unique(slope.nonzero()[:, 0]).tolist()  # NaN isn't zero either


def _has_units(structure: Structure, name: str) -> bool:
    axes = structure.axes.get(name)
    return axes is not None and axes[0] is not None and bool((axes[0] >= 0).any())


def _noisy(tensor: Tensor) -> Tensor:
    """Example inputs may be zeros, from which no weight of the first layer would get a gradient."""
    return tensor + torch.randn_like(tensor) if tensor.is_floating_point() else tensor
