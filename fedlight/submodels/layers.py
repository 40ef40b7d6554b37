"""What each type of layer holds per channel, what it reads, and the attributes that follow from its tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

Layer = Any
"""A module whose type's attributes are read and set; each rule knows its type."""


@dataclass(frozen=True)
class Place:
    """Where channel ``i`` of a layer lies in one of its tensors: at ``i % period + offset`` for every offset.

    Attributes:
        tensor: the tensor's name inside the layer.
        dim: dim of the tensor.
        offsets: more than one if a channel owns several positions (the gates of a recurrent layer).
        period: channels that are equal modulo it must go together (groups of a convolution); 0: every channel alone.
        wraps: the tensor has only ``period`` positions, shared by all channels that are equal modulo it.
    """

    tensor: str
    dim: int
    offsets: tuple[int, ...] = (0,)
    period: int = 0
    wraps: bool = False


Places = tuple[Place, ...]


@dataclass(frozen=True)
class Rule:
    """What one type of layer is made of.

    Attributes:
        matches: tells whether a module is of this type.
        outputs: places of its output channels.
        inputs: places of its input channels; the same as ``outputs`` where channel ``i`` in is channel ``i`` out.
        resize: sets its attributes from its tensors, or from the number of channels if it has none.
    """

    matches: Callable[[Layer], bool]
    outputs: Callable[[Layer], Places]
    inputs: Callable[[Layer], Places]
    resize: Callable[[Layer, int], None]


def rule_of(layer: nn.Module) -> Rule | None:
    """The rule of a layer's type; None for modules that hold nothing per channel themselves."""
    return next((rule for rule in _RULES if rule.matches(layer)), None)


def reads(layer: nn.Module) -> Places:
    """Where a layer's tensors hold what it reads its channels with: the columns of linear layers and the like."""
    rule = rule_of(layer)
    if rule is None or is_attention(layer):  # an attention's own linear layers are asked one by one
        return ()
    if isinstance(layer, nn.RNNBase):
        return rule.inputs(layer) + tuple(place for place in rule.outputs(layer) if place.dim == 1)
    return rule.inputs(layer) if rule.inputs(layer) != rule.outputs(layer) else ()


def is_attention(module: nn.Module) -> bool:
    """Whether a module is an attention whose heads can be dropped.

    It has the int attributes ``num_heads``, ``head_dim`` and perhaps ``num_kv_heads``, which its forward reads at run
    time, and the linear layers ``qkv`` (rows q | k | v) or ``q_proj``, ``k_proj``, ``v_proj``, and ``out_proj``, which
    reads the heads concatenated in head order.
    """
    projections = [getattr(module, name, None) for name in ("q_proj", "k_proj", "v_proj")]
    split = all(isinstance(layer, nn.Linear) for layer in projections)
    return (
        isinstance(getattr(module, "num_heads", None), int)
        and isinstance(getattr(module, "head_dim", None), int)
        and isinstance(getattr(module, "out_proj", None), nn.Linear)
        and (split or isinstance(getattr(module, "qkv", None), nn.Linear))
    )


def num_kv_heads(attention: Layer) -> int:
    """Key-value heads of an attention: as many as query heads unless it says otherwise."""
    return int(getattr(attention, "num_kv_heads", attention.num_heads))


def is_depthwise(layer: Layer) -> bool:
    """Whether a convolution maps every channel to itself alone."""
    return bool(layer.groups == layer.in_channels == layer.out_channels and layer.groups > 1)


def _own(layer: Layer, names: tuple[str, ...], **place: Any) -> Places:
    return tuple(Place(name, 0, **place) for name in names if getattr(layer, name, None) is not None)


# Convolutions ---------------------------------------------------------------------------------------------------------


def _is_transposed(layer: Layer) -> bool:
    return bool(layer.transposed)


def _conv_outputs(layer: Layer) -> Places:
    if is_depthwise(layer):
        return _own(layer, ("weight", "bias"))
    per_group = layer.out_channels // layer.groups if layer.groups > 1 else 0
    if _is_transposed(layer):
        return (Place("weight", 1, period=per_group, wraps=per_group > 0), *_own(layer, ("bias",), period=per_group))
    return _own(layer, ("weight", "bias"), period=per_group)


def _conv_inputs(layer: Layer) -> Places:
    if is_depthwise(layer):
        return _own(layer, ("weight", "bias"))
    per_group = layer.in_channels // layer.groups if layer.groups > 1 else 0
    if _is_transposed(layer):
        return (Place("weight", 0, period=per_group),)
    return (Place("weight", 1, period=per_group, wraps=per_group > 0),)


def _resize_conv(layer: Layer, channels: int) -> None:
    first, second = layer.weight.shape[:2]
    if is_depthwise(layer):
        layer.groups = layer.in_channels = layer.out_channels = first
    elif _is_transposed(layer):
        layer.in_channels, layer.out_channels = first, second * layer.groups
    else:
        layer.out_channels, layer.in_channels = first, second * layer.groups


# Linear layers and embeddings -----------------------------------------------------------------------------------------


def _resize_linear(layer: Layer, channels: int) -> None:
    layer.out_features, layer.in_features = layer.weight.shape


def _resize_embedding(layer: Layer, channels: int) -> None:
    layer.embedding_dim = layer.weight.shape[1]


# Norms and activations ------------------------------------------------------------------------------------------------

_NORM_TENSORS = ("weight", "bias", "running_mean", "running_var")


def _norm_places(layer: Layer) -> Places:
    """A norm without tensors has a place without a name: its channels have owners all the same."""
    return _own(layer, _NORM_TENSORS) or (Place("", 0),)


def _group_norm_places(layer: Layer) -> Places:
    period = layer.num_channels // layer.num_groups if layer.num_groups > 1 else 0
    return _own(layer, ("weight", "bias"), period=period) or (Place("", 0, period=period),)


def _resize_features(layer: Layer, channels: int) -> None:
    layer.num_features = channels


def _resize_normalized_shape(layer: Layer, channels: int) -> None:
    layer.normalized_shape = (channels,)


def _resize_group_norm(layer: Layer, channels: int) -> None:
    layer.num_channels = channels


def _resize_prelu(layer: Layer, channels: int) -> None:
    layer.num_parameters = layer.weight.shape[0]


# Recurrent layers -----------------------------------------------------------------------------------------------------


def _recurrent_outputs(layer: Layer) -> Places:
    """Hidden unit ``i`` owns row ``i`` of every gate in all layers, and what reads it: they share one hidden size."""
    if layer.bidirectional or layer.proj_size:  # only traced where it is protected
        return ()
    size = layer.hidden_size
    gates = tuple(gate * size for gate in range(layer.weight_ih_l0.shape[0] // size))
    places: list[Place] = []
    for level in range(layer.num_layers):
        rows = [f"weight_ih_l{level}", f"weight_hh_l{level}"]
        rows += [f"bias_ih_l{level}", f"bias_hh_l{level}"] if layer.bias else []
        places += [Place(name, 0, offsets=gates) for name in rows]
        places.append(Place(f"weight_hh_l{level}", 1))
        places += [Place(f"weight_ih_l{level}", 1)] if level else []
    return tuple(places)


def _recurrent_inputs(layer: Layer) -> Places:
    sides = ("", "_reverse") if layer.bidirectional else ("",)
    return tuple(Place(f"weight_ih_l0{side}", 1) for side in sides)


def _resize_recurrent(layer: Layer, channels: int) -> None:
    layer.hidden_size, layer.input_size = layer.weight_hh_l0.shape[1], layer.weight_ih_l0.shape[1]
    if layer.proj_size:
        layer.hidden_size = layer.weight_hr_l0.shape[1]
    # The list of weights that cuDNN reads, and the weak references beside it, still name the old ones.
    layer._init_flat_weights()


# Attention ------------------------------------------------------------------------------------------------------------


def _attention_outputs(layer: Layer) -> Places:
    places = _own(layer.out_proj, ("weight", "bias"))
    return tuple(Place(f"out_proj.{place.tensor}", place.dim) for place in places)


def _attention_inputs(layer: Layer) -> Places:
    fused = getattr(layer, "qkv", None) is not None
    return tuple(Place(f"{name}.weight", 1) for name in (("qkv",) if fused else ("q_proj", "k_proj", "v_proj")))


def head_places(attention: Layer) -> Places:
    """Places of the rows and columns of the heads, counted in positions of ``out_proj``'s input.

    In multi-head attention a head takes its keys and values along; where several heads share them (grouped queries)
    they stay.
    """
    width = attention.num_heads * attention.head_dim
    multi_head = num_kv_heads(attention) == attention.num_heads
    places = [Place("out_proj.weight", 1)]
    if getattr(attention, "qkv", None) is not None:
        offsets = (0, width, 2 * width) if multi_head else (0,)
        return (*places, *(Place(f"qkv.{p.tensor}", 0, offsets) for p in _own(attention.qkv, ("weight", "bias"))))
    for name in ("q_proj", "k_proj", "v_proj") if multi_head else ("q_proj",):
        places += [Place(f"{name}.{p.tensor}", 0) for p in _own(getattr(attention, name), ("weight", "bias"))]
    return tuple(places)


def _resize_attention(layer: Layer, channels: int) -> None:
    multi_head = num_kv_heads(layer) == layer.num_heads
    layer.num_heads = layer.out_proj.weight.shape[1] // layer.head_dim
    if multi_head and hasattr(layer, "num_kv_heads"):
        layer.num_kv_heads = layer.num_heads


def _is_a(*types: type[nn.Module]) -> Callable[[Layer], bool]:
    return lambda layer: isinstance(layer, types)


def _through(matches: Callable[[Layer], bool], places: Callable[[Layer], Places], resize: Any) -> Rule:
    return Rule(matches, places, places, resize)


_RULES: tuple[Rule, ...] = (
    Rule(_is_a(nn.modules.conv._ConvNd), _conv_outputs, _conv_inputs, _resize_conv),
    Rule(
        _is_a(nn.Linear),
        lambda layer: _own(layer, ("weight", "bias")),
        lambda layer: (Place("weight", 1),),
        _resize_linear,
    ),
    _through(_is_a(nn.modules.batchnorm._NormBase), _norm_places, _resize_features),
    _through(_is_a(nn.LayerNorm, nn.RMSNorm), _norm_places, _resize_normalized_shape),
    _through(_is_a(nn.GroupNorm), _group_norm_places, _resize_group_norm),
    _through(
        _is_a(nn.PReLU), lambda layer: _own(layer, ("weight",)) if layer.num_parameters > 1 else (), _resize_prelu
    ),
    Rule(
        _is_a(nn.Embedding, nn.EmbeddingBag), lambda layer: (Place("weight", 1),), lambda layer: (), _resize_embedding
    ),
    Rule(_is_a(nn.RNNBase), _recurrent_outputs, _recurrent_inputs, _resize_recurrent),
    Rule(is_attention, _attention_outputs, _attention_inputs, _resize_attention),
)


def num_channels(layer: Layer) -> int:
    """Channels of a norm layer, from its attributes: what ``resize`` gets where no tensor tells."""
    if isinstance(layer, nn.LayerNorm | nn.RMSNorm):
        return int(layer.normalized_shape[-1])
    return int(layer.num_channels if isinstance(layer, nn.GroupNorm) else getattr(layer, "num_features", 0))
