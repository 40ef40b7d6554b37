"""How much a client's update counts."""

from fedlight.parts.contribution.classwise_cosine import ClasswiseCosine
from fedlight.parts.contribution.composite import CompositeStatistics
from fedlight.parts.contribution.cosine_gradient import CosineGradient
from fedlight.parts.contribution.gram import GramLeaveOneOut
from fedlight.parts.contribution.held_out import HeldOutAccuracy, LeaveOneOut
from fedlight.parts.contribution.information_gain import InformationGain
from fedlight.parts.contribution.judge import Judge
from fedlight.parts.contribution.plain import SampleCount, Uniform
from fedlight.parts.contribution.reputation import Reputation
from fedlight.parts.contribution.scored import ByScore, Scored
from fedlight.parts.contribution.shapley import GTGShapley, ShapleyExact, TruncatedMonteCarlo
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
