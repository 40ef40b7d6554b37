"""How much a client's update counts."""

from fedlight.parts.contribution.cosine_gradient import CosineGradient
from fedlight.parts.contribution.plain import SampleCount, Uniform

__all__ = ["CosineGradient", "SampleCount", "Uniform"]
