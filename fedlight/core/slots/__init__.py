"""The slots of an algorithm: one interface for each question that a round asks.

An implementation is final and fills the abstract methods; the hooks that do nothing here may be filled too.
"""

from fedlight.core.slots.merging import Aggregation, Contribution, NoServerUpdate, ServerUpdate
from fedlight.core.slots.part import Part
from fedlight.core.slots.sending import Extraction, Importance, Ratio, Scores, Selection
from fedlight.core.slots.training import Compression, Local, LocalResult, NormPolicy

__all__ = [
    "Aggregation",
    "Compression",
    "Contribution",
    "Extraction",
    "Importance",
    "Local",
    "LocalResult",
    "NoServerUpdate",
    "NormPolicy",
    "Part",
    "Ratio",
    "Scores",
    "Selection",
    "ServerUpdate",
]
