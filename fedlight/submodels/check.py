"""The self-check: is a submodel the full model without the dropped units? Asked by an oracle that needs no graph.

The oracle is the full model with the columns zeroed with which linear layers, convolutions and recurrent layers read
the dropped units, and norms that mix channels taken over the kept ones. It shares the owners of the columns with the
submodel but nothing else, so a wrong map shows: the units that a producer drops aren't those that a consumer misses.
Weights, statistics and inputs are random: zeros, ones and symmetric weights would hide errors.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from fedlight.errors import UnsupportedModelError
from fedlight.submodels.advice import passed, way_out
from fedlight.submodels.build import Builder
from fedlight.submodels.inputs import Call, ExampleInputs, first_line, tensors_in
from fedlight.submodels.layers import reads, rule_of
from fedlight.submodels.masked_norms import norms_over
from fedlight.submodels.structure import Group, Structure

_LARGE = 5_000_000  # parameters


def check_structure(module: nn.Module, structure: Structure, example_inputs: ExampleInputs) -> None:
    """Compare submodels with random kept units to the full model with what they drop zeroed.

    Args:
        module: the full model; a copy in float64 is used.
        structure: what tracing found.
        example_inputs: as for tracing.

    Raises:
        UnsupportedModelError: the outputs differ (in evaluation, or in training with norms and dropout as in
            evaluation), depend on chance or on the data's branch, or not on the units.
    """
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.default_generator.manual_seed(0)  # torch.manual_seed would seed GPUs too
        check = _Check(module, structure, Call.of(example_inputs))
        check.refuse_chance()
        if not structure.groups:
            return
        for trial in range(_num_trials(module, structure)):
            keep = _random_keep(structure.groups, structure.num_units, trial)
            fault = check.fault(keep)
            if fault:
                check.refuse(fault, keep)
        check.refuse_training_only()


class _Check:
    def __init__(self, module: nn.Module, structure: Structure, call: Call) -> None:
        self._structure = structure
        self._dtype, self._tolerance = torch.float64, 1e-9
        self._full = random_copy(module, torch.float64)
        try:
            self._noisy(call).run(self._full)
        except Exception:  # a forward with float32 written in it
            self._dtype, self._tolerance = torch.float32, 1e-4
            self._full = self._full.float()
        self._call = self._noisy(call)
        self._builder = Builder(self._full, structure)
        self._outputs = self._run(self._full)

    def refuse_chance(self) -> None:
        """Refuse a model that gives other outputs for the same inputs, or runs other layers for other ones."""
        name = type(self._full).__name__
        for first, second in zip(self._outputs, self._run(self._full), strict=False):
            if not torch.equal(first, second) and not bool(torch.isnan(first).any()):
                raise UnsupportedModelError(
                    f"{name} in eval mode gives different outputs for the same inputs: "
                    "draw random numbers only where self.training is set"
                )
        if not all(bool(torch.isfinite(output).all()) for output in self._outputs):
            raise UnsupportedModelError(
                f"{name} gives infinite outputs or NaN for random weights, which no comparison can use: "
                "normalise the layers whose outputs grow (SubmodelPlan.trace, called by hand, takes check=False)"
            )
        usual = self._layers_run(self._call) or set()
        for call in (self._call.map(_negated), self._call.map(_grown)):
            found = self._layers_run(call)
            for branch in sorted(usual ^ found) if found is not None else ():
                raise UnsupportedModelError(
                    f"{name} runs layer {branch!r} for some inputs only: take the branch out of the forward, "
                    "since only the one that the example inputs take can be traced"
                )
        training = self._layers_run(self._call, training=True) or set()
        for extra in sorted(training - usual):
            raise UnsupportedModelError(
                f"{name} runs layer {extra!r} in training alone, where it can't be traced: leave it out of the model "
                "(torchvision: aux_logits=False)"
            )

    def refuse_training_only(self) -> None:
        """Refuse what is wrong in training mode alone, with few units of each group kept; unless by chance."""
        drawn = torch.get_rng_state()
        try:
            first, second = self._run(self._full, training=True), self._run(self._full, training=True)
        except Exception:  # a forward that wants targets in training
            return
        # Two draws may be alike: a forward that took random numbers is left alone whatever came of them.
        if not torch.equal(drawn, torch.get_rng_state()):
            return
        if not all(torch.equal(one, other) for one, other in zip(first, second, strict=True)):
            return
        groups, num_units = self._structure.groups, self._structure.num_units
        few = torch.stack([_random_keep((group,), num_units, 0) for group in groups]).any(0)
        fault = self.fault(few, training=True)
        if fault:
            raise UnsupportedModelError(
                f"{type(self._full).__name__} in training mode: {fault}, in evaluation it is right: take what mixes "
                "channels, or needs their number, out of what its forward does only where self.training is set"
            )

    def fault(self, keep: Tensor, training: bool = False) -> str:
        """What is wrong with the submodel of this keep set; empty if nothing."""
        expected = self._masked(keep, training)
        try:
            outputs = self._run(self._builder.build(self._full, keep), training)
        except Exception as error:
            return f"the submodel's forward fails ({first_line(error)})"
        if [output.shape for output in outputs] != [output.shape for output in expected]:
            return "the submodel's outputs have other shapes"
        for output, wanted in zip(outputs, expected, strict=True):
            if not torch.allclose(
                output, wanted, rtol=self._tolerance, atol=self._tolerance * float(wanted.abs().max())
            ):
                return "the submodel's outputs differ from those of the full model without the dropped units"
        return ""

    def refuse(self, fault: str, keep: Tensor) -> None:
        """Find the group whose map is wrong, or those that are wrong together, and raise."""
        groups = self._structure.groups
        for group in groups:
            alone = torch.ones_like(keep)
            alone[group.units] = _random_keep((group,), len(keep), 0)[group.units]
            found = self.fault(alone)
            if found:
                raise UnsupportedModelError(_message(group, found, self._readers(group)))
        guilty: list[Group] = []
        for group in groups:
            without = keep.clone()
            without[group.units] = True
            found = self.fault(without)
            keep, fault = (without, found) if found else (keep, fault)
            guilty += [] if found else [group]
        if len(guilty) == 1:
            raise UnsupportedModelError(_message(guilty[0], fault, self._readers(guilty[0])))
        names = [group.name for group in guilty]
        raise UnsupportedModelError(
            f"layers {', '.join(map(repr, names))}: {fault} when they are pruned together: "
            f"leave all but one of them whole with protect={names[1:]!r}"
        )

    def _readers(self, group: Group) -> list[str]:
        readers = []
        for tensor, dim in group.tensors:
            name, _, tail = tensor.rpartition(".")
            if any((place.tensor, place.dim) == (tail, dim) for place in reads(self._full.get_submodule(name))):
                readers.append(name)
        return readers

    def _masked(self, keep: Tensor, training: bool) -> list[Tensor]:
        columns: dict[int, object] = {
            id(tensor): tensor for tensor in (*self._full.parameters(), *self._full.buffers())
        }
        kept_or_fixed = torch.cat([keep, torch.ones(1, dtype=torch.bool)])  # owner -1 finds the last
        for name, layer in self._full.named_modules():
            for place in reads(layer):
                owner = self._owner(f"{name}.{place.tensor}" if name else place.tensor, place.dim)
                if owner is not None:
                    weight = layer.get_parameter(place.tensor)
                    shape = [-1 if dim == place.dim else 1 for dim in range(weight.dim())]
                    masked = cast(Tensor, columns[id(weight)]) * kept_or_fixed[owner].to(weight.dtype).view(shape)
                    columns[id(weight)] = nn.Parameter(masked, requires_grad=False)
        full = copy.deepcopy(self._full, columns)
        masks = {
            layer: kept_or_fixed[owner]
            for name, layer in full.named_modules()
            if (owner := self._norm_owner(name, layer)) is not None
        }
        with norms_over(masks):
            return self._run(full, training)

    def _norm_owner(self, name: str, layer: nn.Module) -> Tensor | None:
        if not isinstance(layer, nn.LayerNorm | nn.RMSNorm | nn.GroupNorm):
            return None
        return self._owner(f"{name}.weight" if layer.weight is not None else name, 0)

    def _owner(self, tensor: str, dim: int) -> Tensor | None:
        axes = self._structure.axes.get(tensor) or self._structure.unsaved.get(tensor)
        return axes[dim] if axes else None

    def _run(self, module: nn.Module, training: bool = False) -> list[Tensor]:
        with torch.no_grad(), _mode(module, training):
            return [t for t in tensors_in(self._call.run(module)) if t.is_floating_point()]

    def _layers_run(self, call: Call, training: bool = False) -> set[str] | None:
        """Names of the layers with parameters that one forward pass runs; None if it fails on these inputs."""
        seen: set[str] = set()

        def note(name: str) -> Callable[..., None]:
            return lambda *_: seen.add(name)

        layers = [(n, m) for n, m in self._full.named_modules() if next(m.parameters(recurse=False), None) is not None]
        hooks = [layer.register_forward_pre_hook(note(name)) for name, layer in layers]
        try:
            with torch.no_grad(), _mode(self._full, training):
                call.run(self._full)
        except Exception:
            return None
        finally:
            for hook in hooks:
                hook.remove()
        return seen

    def _noisy(self, call: Call) -> Call:
        def disturb(tensor: Tensor) -> Tensor:
            if not tensor.is_floating_point():
                return tensor
            tensor = tensor.to(self._dtype)
            spread = float(tensor.std()) if tensor.numel() > 1 else 0.0
            return tensor + torch.randn_like(tensor) * (0.5 * spread if spread > 0 else 1.0)

        return call.map(disturb)


@contextmanager
def _mode(module: nn.Module, training: bool) -> Iterator[None]:
    """Let a module run as in training, with its norms and dropout as in evaluation, if ``training``; then put it back.

    A batch of one has no variance, and dropout would drop other units in each of two networks.
    """
    if not training:
        yield
        return
    module.train()
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._NormBase | nn.modules.dropout._DropoutNd):
            layer.eval()
    try:
        yield
    finally:
        module.eval()


def _message(group: Group, found: str, readers: list[str]) -> str:
    what = {"heads": "heads", "hidden": "hidden units"}.get(group.kind, "channels")
    to = f" read by {', '.join(repr(name) for name in list(dict.fromkeys(readers))[:3])}" if readers else ""
    advice = way_out(group.name, group.route)
    return f"layer {group.name!r}: {found}, so its {what}{to} can't be dropped{passed(group.route)}: {advice}"


def _negated(tensor: Tensor) -> Tensor:
    return -tensor if tensor.is_floating_point() else tensor


def _grown(tensor: Tensor) -> Tensor:
    return 10 * tensor + 1 if tensor.is_floating_point() else tensor


def _num_trials(module: nn.Module, structure: Structure) -> int:
    """As many as it takes for any two groups to keep few and many units once; at most 3 for large models."""
    size = sum(parameter.numel() for parameter in module.parameters())
    return min(max(2, len(structure.groups).bit_length()), 3 if size > _LARGE else 8)


def _random_keep(groups: tuple[Group, ...], num_units: int, trial: int) -> Tensor:
    """Keep random units: few of a group if bit ``trial`` of its number is set, many else; as many in each partition."""
    keep = torch.zeros(num_units, dtype=torch.bool)
    for number, group in enumerate(groups, start=1):
        size = group.size // group.partitions
        few = number >> trial & 1
        low, high = (1, max(1, size // 2)) if few else (size // 2 + 1, size)
        count = int(torch.randint(low, high + 1, ()))
        for part in range(group.partitions):
            keep[group.start + part * size + torch.randperm(size)[:count]] = True
    return keep


def random_copy(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Copy a module to the CPU with random parameters and statistics of a scale that lets signals through."""
    memo: dict[int, object] = {}
    for parameter in module.parameters():
        kind = dtype if parameter.is_floating_point() else parameter.dtype
        memo[id(parameter)] = nn.Parameter(torch.empty(parameter.shape, dtype=kind), requires_grad=False)
    for buffer in module.buffers():
        memo[id(buffer)] = buffer.detach().to("cpu", dtype if buffer.is_floating_point() else buffer.dtype, copy=True)
    copied = copy.deepcopy(module, memo).cpu().eval()
    for layer in copied.modules():
        for name, statistic in layer.named_buffers(recurse=False):
            if name == "running_mean":
                statistic.normal_(0, 0.3)
            elif name == "running_var":
                statistic.uniform_(0.5, 1.5)
        for name, parameter in layer.named_parameters(recurse=False):
            if name.startswith("bias"):
                parameter.normal_(0, 0.3)
            elif sum(size > 1 for size in parameter.shape) < 2:  # scales of norms and the like
                parameter.uniform_(0.5, 1.5)
            else:
                fan_in = parameter[0].numel() if rule_of(layer) is not None else 9
                # Drawn in float32: that is ten times as fast, and large models have a hundred million of them.
                parameter.copy_(torch.randn(parameter.shape).mul_(1.5 * max(1, fan_in) ** -0.5))
    return copied
