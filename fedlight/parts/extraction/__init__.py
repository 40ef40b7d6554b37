"""What the client gets: a keep set of channels, or weight masks."""

from fedlight.parts.extraction.channels import Channels
from fedlight.parts.extraction.layer_ratios import ERKRatios, LayerRatios, SensitivityRatios, UniformRatios
from fedlight.parts.extraction.pruned_once import PrunedOnce
from fedlight.parts.extraction.size_search import SizeSearch
from fedlight.parts.extraction.weights import Weights

__all__ = [
    "Channels",
    "ERKRatios",
    "LayerRatios",
    "PrunedOnce",
    "SensitivityRatios",
    "SizeSearch",
    "UniformRatios",
    "Weights",
]
