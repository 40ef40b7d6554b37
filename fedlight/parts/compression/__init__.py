"""What a client sends back."""

from fedlight.parts.compression.level import TimeMatchedLevel
from fedlight.parts.compression.none import NoCompression
from fedlight.parts.compression.qsgd import QSGD
from fedlight.parts.compression.quantized import Quantized
from fedlight.parts.compression.topk import TopK

__all__ = ["QSGD", "NoCompression", "Quantized", "TimeMatchedLevel", "TopK"]
