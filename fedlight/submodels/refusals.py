"""Models that are refused before they are traced: patterns that no index map can make right."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils.parametrize import is_parametrized

from fedlight.errors import UnsupportedModelError


def is_protected(name: str, protect: Sequence[str]) -> bool:
    """Whether a layer's name matches one of the patterns (``*`` matches dots too)."""
    return any(fnmatchcase(name, pattern) for pattern in protect)


def refuse_early(module: nn.Module, protect: Sequence[str]) -> None:
    """Refuse what can be seen without a forward pass.

    Raises:
        UnsupportedModelError: a compiled model, lazy or tied or reparametrised weights, an attention that can't drop
            single heads, a recurrent layer in two directions or with a projection, a pattern that matches no layer.
    """
    if hasattr(module, "_orig_mod"):
        raise UnsupportedModelError("the model is compiled: trace it first, and compile the submodels that build makes")
    layers = dict(module.named_modules())
    for pattern in protect:
        names = [*layers, *(name for name, _ in module.named_parameters())]
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UnsupportedModelError(f"protect={pattern!r} matches no layer: use names as in named_modules()")
    _refuse_tensors(module)
    for name, layer in layers.items():
        _refuse_layer(name, layer, is_protected(name, protect))


def _refuse_tensors(module: nn.Module) -> None:
    owner: dict[tuple[object, ...], str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if isinstance(parameter, UninitializedParameter):
            raise UnsupportedModelError(f"{name!r} is lazy: run one forward pass before tracing")
        where: tuple[object, ...] = (id(parameter),)
        if parameter.data_ptr() and parameter.numel():
            where = (parameter.data_ptr(), parameter.shape, parameter.stride())
        if where in owner:
            raise UnsupportedModelError(
                f"{owner[where]!r} and {name!r} are one tied tensor, and each use would drop other positions of it: "
                "give each layer a tensor of its own"
            )
        owner[where] = name


def _refuse_layer(name: str, layer: nn.Module, protected: bool) -> None:
    if is_parametrized(layer):
        raise UnsupportedModelError(
            f"layer {name!r} computes its weight from others (parametrization): "
            "call torch.nn.utils.parametrize.remove_parametrizations on it, or use a plain layer"
        )
    if any(hook.__class__.__name__ in ("WeightNorm", "SpectralNorm") for hook in layer._forward_pre_hooks.values()):
        raise UnsupportedModelError(
            f"layer {name!r} computes its weight from others (weight or spectral norm): remove it, or use a plain layer"
        )
    if isinstance(layer, nn.MultiheadAttention) and not protected:
        raise UnsupportedModelError(
            f"layer {name!r} is an nn.MultiheadAttention, which can't drop single heads: use an attention with linear "
            "layers q_proj, k_proj, v_proj (or qkv) and out_proj and ints num_heads and head_dim, such as "
            f"fedlight.models.attention.Attention, or leave all it touches whole with protect=[{name!r}]"
        )
    if isinstance(layer, nn.RNNBase) and not protected and (layer.bidirectional or layer.proj_size):
        raise UnsupportedModelError(
            f"layer {name!r} is a recurrent layer with bidirectional or proj_size, whose hidden units can't be dropped "
            f"soundly: use one direction without projection, or leave its units whole with protect=[{name!r}]"
        )
