"""Submodels: a plan traced once per architecture, keep sets and masks, slicing, regrowing, cost."""

from fedlight.errors import UnsupportedModelError
from fedlight.submodels.coverage import ChannelCoverage, Coverage, MaskCoverage, coverage_from_state
from fedlight.submodels.plan import SubmodelPlan
from fedlight.submodels.structure import Cost, Group, Structure

__all__ = [
    "ChannelCoverage",
    "Cost",
    "Coverage",
    "Group",
    "MaskCoverage",
    "Structure",
    "SubmodelPlan",
    "UnsupportedModelError",
    "coverage_from_state",
]
