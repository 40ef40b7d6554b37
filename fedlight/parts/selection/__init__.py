"""Who trains now."""

from fedlight.parts.selection.by_contribution import ByContribution
from fedlight.parts.selection.least_available import LeastAvailable
from fedlight.parts.selection.oort import Oort
from fedlight.parts.selection.tifl import TiFL
from fedlight.parts.selection.uniform import UniformSelection

__all__ = ["ByContribution", "LeastAvailable", "Oort", "TiFL", "UniformSelection"]
