"""How much a client's update counts."""

from fedlight.parts.contribution.by_score import ByScore
from fedlight.parts.contribution.classwise_cosine import ClasswiseCosine
from fedlight.parts.contribution.composite import CompositeStatistics
from fedlight.parts.contribution.cosine_gradient import CosineGradient
from fedlight.parts.contribution.gram import GramLeaveOneOut
from fedlight.parts.contribution.gtg_shapley import GTGShapley
from fedlight.parts.contribution.held_out import HeldOutAccuracy
from fedlight.parts.contribution.information_gain import InformationGain
from fedlight.parts.contribution.judge import Judge
from fedlight.parts.contribution.leave_one_out import LeaveOneOut
from fedlight.parts.contribution.plain import SampleCount, Uniform
from fedlight.parts.contribution.reputation import Reputation
from fedlight.parts.contribution.scored import Scored
from fedlight.parts.contribution.shapley_exact import ShapleyExact
from fedlight.parts.contribution.truncated_monte_carlo import TruncatedMonteCarlo
from fedlight.parts.contribution.volume import RobustVolume

__all__ = [
    "ByScore",
    "ClasswiseCosine",
    "CompositeStatistics",
    "CosineGradient",
    "GTGShapley",
    "GramLeaveOneOut",
    "HeldOutAccuracy",
    "InformationGain",
    "Judge",
    "LeaveOneOut",
    "Reputation",
    "RobustVolume",
    "SampleCount",
    "Scored",
    "ShapleyExact",
    "TruncatedMonteCarlo",
    "Uniform",
]
