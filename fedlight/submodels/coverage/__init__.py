"""Coverage: which entries of the global model a submodel holds; the one seam through which updates come back."""

from fedlight.submodels.coverage.channels import ChannelCoverage
from fedlight.submodels.coverage.coverage import Coverage, State
from fedlight.submodels.coverage.masks import MaskCoverage
from fedlight.submodels.coverage.saved import coverage_from_state

__all__ = ["ChannelCoverage", "Coverage", "MaskCoverage", "State", "coverage_from_state"]
