"""Tracing: from torch-pruning's dependency graph to the units of a model; the only place that imports it.

The graph of the full model is walked once, and only its index maps are used: nothing is ever pruned by torch-pruning.
What it gets wrong is caught by the check in ``check.py``, which doesn't know of its maps.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn

from fedlight.errors import UnsupportedModelError
from fedlight.submodels.advice import way_out
from fedlight.submodels.inputs import Call, ExampleInputs, first_line, run_or_refuse, tensors_in
from fedlight.submodels.layers import Place, is_attention, rule_of
from fedlight.submodels.ledger import Draft, Ledger
from fedlight.submodels.refusals import is_protected, refuse_early
from fedlight.submodels.standins import traceable_copy
from fedlight.submodels.structure import Structure


def trace_structure(
    module: nn.Module, example_inputs: ExampleInputs, protect: Sequence[str] = (), time_limit_s: float = 60.0
) -> Structure:
    """Find the units of a model, and the owner of every position of every tensor.

    Args:
        module: any module; it is left as it is (a copy is traced on the CPU in float32).
        example_inputs: a tensor, a tuple of arguments or a dict of keyword arguments of its forward.
        protect: patterns of names of layers whose output channels stay whole; ``*`` matches dots too.
        time_limit_s: seconds for the walk over the graph; some graphs would never end.

    Returns:
        The structure. What determines the model's outputs directly belongs to no unit.

    Raises:
        UnsupportedModelError: the model can't be traced; names the layer and the way out.
    """
    refuse_early(module, protect)
    copied, names = traceable_copy(module)
    call = Call.of(example_inputs).floats(torch.float32)
    ledger = Ledger(module)
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about its own guesses, which are checked later
        run_or_refuse(copied, call)
        graph = _Graph(time_limit_s, names)
        graph.follow(copied, call.map(_visible))
        for root, name in names.items():
            _add_group(ledger, graph, root, name, protect)
    for name, layer in module.named_modules():
        if is_attention(layer):
            parts = [name, *(f"{name}.{child}".lstrip(".") for child in ("qkv", "q_proj", "k_proj", "v_proj"))]
            ledger.add_heads(name, layer, whole=any(is_protected(part, protect) for part in parts))
    return ledger.structure()


@dataclass(frozen=True)
class _Item:
    """One layer or tensor that a group reaches: its channels ``channels`` belong to the group's ``roots``."""

    module: Any
    is_output: bool
    is_model_output: bool
    dim: int
    channels: Tensor
    roots: Tensor
    operation: str


class _Graph(tp.DependencyGraph):  # type: ignore[misc]
    """torch-pruning's graph with a deadline, which is looked at wherever its walks and recursions come by."""

    def __init__(self, time_limit_s: float, names: dict[nn.Module, str]) -> None:
        super().__init__()
        self._limit_s = time_limit_s
        self._deadline_s = time.monotonic() + time_limit_s
        self._names = names
        self._where = ""

    def follow(self, module: nn.Module, call: Call) -> None:
        """Trace one forward pass; the sum of every float output marks where the model ends."""

        def end(output: Any) -> list[Tensor]:
            return [tensor.sum() for tensor in tensors_in(output) if tensor.requires_grad]

        try:
            self.build_dependency(
                module,
                call.args,
                forward_fn=lambda traced, _: call.run(traced),
                output_transform=end,
                unwrapped_parameters=[(x, 1) for x in tensors_in([call.args, call.kwargs]) if x.requires_grad],
                verbose=False,
            )
        except UnsupportedModelError:
            raise
        except Exception as error:
            raise UnsupportedModelError(
                f"the channels of {type(module).__name__} can't be followed ({first_line(error)}): replace channel "
                "shuffles, splits, pads and reshapes of channels by plain layers"
            ) from error
        if not self.module2node:
            raise UnsupportedModelError(
                f"{type(module).__name__} returns nothing that gradients flow to: return float tensors from its forward"
            )
        for node in self.module2node.values():
            node.dependencies = _Watched(node.dependencies, self.watch)

    def watch(self) -> None:
        """Stop the walk when its time is over."""
        if time.monotonic() > self._deadline_s:
            raise UnsupportedModelError(
                f"tracing{self._where} took more than {self._limit_s:g} s, as some graphs never end (for example a "
                "flatten before a concatenation): concatenate channels before flattening, or protect the layer "
                "(SubmodelPlan.trace, called by hand, takes a longer time_limit_s)"
            )

    def get_out_channels(self, module_or_node: Any) -> Any:
        """Channels behind a layer; called in every step of torch-pruning's recursions."""
        self.watch()
        return super().get_out_channels(module_or_node)

    def get_in_channels(self, module_or_node: Any) -> Any:
        """Channels in front of a layer; called in every step of torch-pruning's recursions."""
        self.watch()
        return super().get_in_channels(module_or_node)

    def items(self, root: nn.Module, channels: list[int]) -> Iterator[_Item]:
        """All that must change if these output channels of ``root`` are dropped."""
        name = self._names[root]
        self._where = f" layer {name!r}"
        try:
            group = self.get_pruning_group(root, self.get_pruner_of_module(root).prune_out_channels, channels)
        except UnsupportedModelError:
            raise
        except Exception as error:
            raise UnsupportedModelError(
                f"layer {name!r}: its channels can't be followed to the layers that read them ({first_line(error)}): "
                f"{way_out(name, ())}"
            ) from error
        for item in group.items:
            node = item.dep.target
            yield _Item(
                module=node.module,
                is_output=self.is_out_channel_pruning_fn(item.dep.handler),
                is_model_output=node.type == tp.ops.OPTYPE.OUTPUT,
                dim=node.pruning_dim,
                channels=torch.tensor(item.idxs, dtype=torch.int64),
                roots=torch.tensor(item.root_idxs, dtype=torch.int64),
                operation=_operation(node),
            )


class _Watched(list):  # type: ignore[type-arg]
    """A list that calls back before it is iterated."""

    def __init__(self, items: Any, watch: Any) -> None:
        super().__init__(items)
        self._watch = watch

    def __iter__(self) -> Iterator[Any]:
        self._watch()
        return super().__iter__()


def _operation(node: Any) -> str:
    """What happens between layers, as autograd names it; empty for layers and for what leaves channels alone."""
    if isinstance(node.module, nn.Parameter) or node.grad_fn is None or node.type == tp.ops.OPTYPE.OUTPUT:
        return ""
    if type(node.module).__module__ != tp.ops.__name__:
        return ""
    name = str(getattr(node.grad_fn, "name", lambda: "")()).removesuffix("0").removesuffix("Backward")
    return name if any(word in name.lower() for word in _TELLING) else ""


_TELLING = ("view", "reshape", "permute", "transpose", "cat", "split", "pad", "shuffle", "unbind", "slice", "glu")


def _add_group(ledger: Ledger, graph: _Graph, root: nn.Module, name: str, protect: Sequence[str]) -> None:
    """Turn what depends on the channels of one layer, as far as no other layer's have it already, into units."""
    if root not in graph.module2node or not isinstance(root, nn.modules.conv._ConvNd | nn.Linear | nn.Embedding):
        return
    if is_protected(_own_name(ledger, name), protect):  # what is coupled with it finds it, and stays whole too
        return
    channels = ledger.free_outputs(name, graph.get_out_channels(root))
    if not len(channels):
        return
    draft = ledger.draft(_own_name(ledger, name), channels)
    for item in graph.items(root, channels.tolist()):
        _enter(draft, ledger, graph, item, protect)
    draft.close()


def _enter(draft: Draft, ledger: Ledger, graph: _Graph, item: _Item, protect: Sequence[str]) -> None:
    """Enter what one layer or tensor holds of a group."""
    whole = item.is_model_output or isinstance(item.module, nn.MultiheadAttention)
    if item.operation:
        draft.route.append(item.operation)
    if isinstance(item.module, nn.Parameter):
        tensor = graph._param_to_name.get(item.module)
        if tensor is None:  # one of the model's inputs, whose channels stay, unless it has fewer (a mask)
            whole |= int(item.channels.max()) < item.module.shape[item.dim]
        else:
            draft.own(tensor, [Place("", item.dim % item.module.dim())], item.channels, item.roots)
            whole |= is_protected(tensor, protect)
    elif (name := graph._names.get(item.module)) is not None:
        layer = ledger.layer(name)
        rule = rule_of(layer)
        assert rule is not None  # noqa: S101 - only layers with a rule have a name
        draft.own(name, rule.outputs(layer) if item.is_output else rule.inputs(layer), item.channels, item.roots)
        if item.is_output:
            ledger.claim(name, item.channels)
            whole |= is_protected(_own_name(ledger, name), protect)
    if whole:
        draft.keep_whole(item.roots)


def _visible(tensor: Tensor) -> Tensor:
    """Make an input a node of the graph, so that what is added to it or concatenated with it is seen.

    Not with three dims: their channels may be in the second or the last, and torch-pruning takes a parameter of three
    dims for a table of positions.
    """
    channels = tensor.shape[1] if tensor.dim() in (2, 4, 5) else 1
    return nn.Parameter(tensor) if tensor.is_floating_point() and channels > 1 else tensor


def _own_name(ledger: Ledger, name: str) -> str:
    """Name of what puts out a layer's channels; an attention's own name is that of its heads."""
    return f"{name}.out_proj".lstrip(".") if is_attention(ledger.layer(name)) else name
