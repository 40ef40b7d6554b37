"""Updates as they are."""

from __future__ import annotations

from typing import final

from fedlight.core.slots import Compression
from fedlight.core.types import ClientTask, Update
from fedlight.submodels.structure import Cost


@final
class NoCompression(Compression):
    """Sends every trained entry as it is, in the floats it was trained in.

    Entries that a mask leaves out aren't sent: the server knows the mask. Statistics for importance aren't counted,
    since a client can sum them up to one number per unit before it sends them.
    """

    def upload_bytes(self, cost: Cost, level: float = 1.0) -> int:
        """Return the bytes of the submodel's parameters and float buffers."""
        return cost.num_bytes

    def encode(self, update: Update, task: ClientTask) -> Update:
        """Return the update unchanged; ``upload_bytes`` is already its plain size."""
        return update
