"""How updates merge."""

from fedlight.parts.aggregation.count_mean import CountMean
from fedlight.parts.aggregation.coverage_mean import CoverageMean
from fedlight.parts.aggregation.mixing import Mixing
from fedlight.parts.aggregation.residual_recovery import ResidualRecovery
from fedlight.parts.aggregation.step_normalized import StepNormalized
from fedlight.parts.aggregation.zero_fill import ZeroFill

__all__ = ["CountMean", "CoverageMean", "Mixing", "ResidualRecovery", "StepNormalized", "ZeroFill"]
