"""The thin modules that clients train in, kept from round to round."""

from __future__ import annotations

import copy
from collections import OrderedDict

import lightning.pytorch as pl
import torch

from fedlight.submodels import SubmodelPlan
from fedlight.submodels.coverage import Coverage


class ThinModules:
    """Builds a client's module once per shape and hands it out again: clients of one shape train one after another.

    Every client loads its own weights into it, so nothing is carried from one to the next.

    Args:
        plan: the plan of ``template``.
        template: the full-size module; copied, never changed.
        capacity: shapes to keep; the one unused for longest is dropped first.
    """

    def __init__(self, plan: SubmodelPlan, template: pl.LightningModule, capacity: int = 64) -> None:
        self._plan = plan
        self._template = copy.deepcopy(template)
        self._capacity = capacity
        self._modules: OrderedDict[object, pl.LightningModule] = OrderedDict()

    def get(self, coverage: Coverage, torch_device: torch.device) -> pl.LightningModule:
        """Return a module of the coverage's shape on ``torch_device``; its weights are whatever was there before."""
        key = (self._plan.signature(coverage.keep), torch_device)
        module = self._modules.get(key)
        if module is None:
            module = self._plan.build(self._template, coverage.keep).to(torch_device)
            self._modules[key] = module
            if len(self._modules) > self._capacity:
                self._modules.popitem(last=False)
        self._modules.move_to_end(key)
        return module
