"""The plan: traced once per architecture, it cuts, grows back, builds and prices submodels by index maps."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal, TypeVar, final

import numpy as np
import torch
from torch import Tensor, nn

from fedlight.errors import UnsupportedModelError
from fedlight.submodels.build import Builder
from fedlight.submodels.check import check_structure
from fedlight.submodels.cost import CostTable
from fedlight.submodels.coverage import ChannelCoverage, State
from fedlight.submodels.inputs import Call, ExampleInputs
from fedlight.submodels.keep import Ratio, choose
from fedlight.submodels.outputs import output_rows
from fedlight.submodels.structure import Cost, Group, Structure
from fedlight.submodels.tracer import trace_structure

Module = TypeVar("Module", bound=nn.Module)


@final
class SubmodelPlan:
    """The units of a model and all that is done with them. Made by :meth:`trace`.

    A keep set is a bool[num_units] on the CPU; every method takes it by position order of the units, group by group.
    """

    def __init__(
        self, structure: Structure, builder: Builder, costs: CostTable, output_rows: tuple[str, ...] = ()
    ) -> None:
        self._structure = structure
        self._builder = builder
        self._costs = costs
        self._output_rows = output_rows

    @classmethod
    def trace(
        cls,
        module: nn.Module,
        example_inputs: ExampleInputs,
        *,
        protect: Sequence[str] = (),
        check: bool = True,
        time_limit_s: float = 60.0,
    ) -> SubmodelPlan:
        """Find the units of a model, check on random submodels that nothing is misplaced, and measure its cost.

        What makes up the model's outputs is never prunable. The module itself is left as it is.

        Args:
            module: any module whose forward takes ``example_inputs`` and returns float tensors.
            example_inputs: a tensor, a tuple of arguments or a dict of keyword arguments, batch first.
            protect: patterns of layer names (``*`` matches dots too) whose output channels all stay.
            check: compare random submodels to the full model without the dropped units.
            time_limit_s: seconds for the walk over the graph.

        Raises:
            UnsupportedModelError: submodels would not be exact; names the layer, the pattern and the way out.
        """
        device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
        call = Call.of(example_inputs).map(lambda tensor: tensor.to(device, copy=True))
        with torch.random.fork_rng(devices=[]):  # what stands in for layers, and the module itself, may draw
            structure = trace_structure(module, example_inputs, protect, time_limit_s)
            if check:
                check_structure(module, structure, example_inputs)
            costs = CostTable.measure(module, call.kwargs or call.args, structure)
            rows = output_rows(module, structure, example_inputs)
        return cls(structure, Builder(module, structure), costs, rows)

    @property
    def structure(self) -> Structure:
        """The groups, and the owner of every position of every tensor."""
        return self._structure

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups in the order of their units, with their names, sizes and tensors."""
        return self._structure.groups

    @property
    def num_units(self) -> int:
        """Number of units in all groups."""
        return self._structure.num_units

    @property
    def costs(self) -> CostTable:
        """Prices keep sets, and counts without a keep set."""
        return self._costs

    @property
    def output_rows(self) -> tuple[str, ...]:
        """Names of the parameters that hold one row per output of the model (:func:`~.outputs.output_rows`)."""
        return self._output_rows

    @property
    def fingerprint(self) -> str:
        """Hash of tensor names, shapes and groups: equal for equal architectures with equal plans, in any process."""
        groups = [(g.name, g.kind, g.start, g.size, g.partitions, g.tensors) for g in self.groups]
        shapes = sorted((name, tuple(shape)) for name, shape in self._structure.shapes.items())
        return hashlib.sha256(repr((groups, shapes)).encode()).hexdigest()[:16]

    def full_keep(self) -> Tensor:
        """The keep set of the full model."""
        return torch.ones(self.num_units, dtype=torch.bool)

    def keep(
        self,
        scores: Tensor,
        ratio: Ratio,
        scope: Literal["layer", "global"] = "layer",
        round_to: int = 8,
        min_units: int = 1,
    ) -> Tensor:
        """Choose the units with the highest scores; exact counts, ties go to the lower index (see ``keep.choose``).

        Args:
            scores: float[num_units], higher = keep.
            ratio: fraction of the units removed, in [0, 1); in ``layer`` scope also one per group.
            scope: where units compete: within their group, or all with all.
            round_to: each group's count is a multiple of this where the group is large enough.
            min_units: units that every group keeps at least.

        Raises:
            ConfigError: an argument out of range.
            DataError: scores of another length, or NaN.
            UnsupportedModelError: a ratio above 0 for a model without units.
        """
        if not self.groups and np.max(ratio, initial=0.0) > 0.0:
            raise UnsupportedModelError(
                "the plan has no units: every layer makes up the output, is protected, or isn't followed from the "
                "example inputs by gradients; add a hidden layer, protect less, or use ratio 0"
            )
        return choose(self.groups, scores, ratio, scope=scope, round_to=round_to, min_units=min_units)

    def coverage(self, keep: Tensor) -> ChannelCoverage:
        """The index maps of one keep set: make it once where several state dicts are cut or grown by the same one."""
        return ChannelCoverage(self._structure, keep)

    def slice(self, state_dict: State, keep: Tensor) -> dict[str, Tensor]:
        """Cut a submodel's tensors out of the full model's; bit-exact copies.

        Raises:
            CheckpointError: a state dict of another architecture.
        """
        return self.coverage(keep).slice(state_dict)

    def regrow(self, thin: State, keep: Tensor, base: State) -> dict[str, Tensor]:
        """Put a submodel's tensors back where they came from, in a copy of ``base``; bit-exact.

        Raises:
            CheckpointError: state dicts of another architecture or keep set.
        """
        return self.coverage(keep).regrow(thin, base)

    def build(self, module: Module, keep: Tensor) -> Module:
        """Make a physically smaller copy of a module, of the same class and with the attributes of its layers set.

        Frozen parameters stay frozen; everything that is no tensor is copied as :func:`copy.deepcopy` does.

        Raises:
            CheckpointError: a module of another architecture.
        """
        return self._builder.build(module, keep)

    def cost(self, keep: Tensor) -> Cost:
        """Parameters, MACs of one example, and bytes of a submodel."""
        return self._costs.cost(keep)

    def signature(self, keep: Tensor) -> tuple[int, ...]:
        """Kept units per group: submodels with equal signatures have equal shapes."""
        return tuple(int(keep[group.units].sum()) for group in self.groups)
