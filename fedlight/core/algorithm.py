"""An algorithm is a value: one choice per slot."""

from __future__ import annotations

from fedlight.core.download import Download, GlobalModel
from fedlight.core.schedule import Schedule
from fedlight.core.slots import (
    Aggregation,
    Compression,
    Contribution,
    Extraction,
    Importance,
    Local,
    NormPolicy,
    NoServerUpdate,
    Part,
    Ratio,
    Selection,
    ServerUpdate,
)


class Algorithm:
    """A federated algorithm as a composition of parts; the server asks each part its question once a round.

    A published method is a final subclass with only an ``__init__`` that fills every slot. To try something of your
    own in a config, name this class and give the parts.

    Args:
        selection: who trains now?
        ratio: how much is removed?
        importance: what matters?
        extraction: what does the client get?
        local: how does it train?
        norm: what happens to running statistics?
        compression: what is sent back?
        contribution: how much does it count?
        aggregation: how do updates merge?
        schedule: when does the server move?
        server_update: what does the server do with the new weights? None: nothing.
        download: what does a client start from? None: the global model.
    """

    def __init__(
        self,
        *,
        selection: Selection,
        ratio: Ratio,
        importance: Importance,
        extraction: Extraction,
        local: Local,
        norm: NormPolicy,
        compression: Compression,
        contribution: Contribution,
        aggregation: Aggregation,
        schedule: Schedule,
        server_update: ServerUpdate | None = None,
        download: Download | None = None,
    ) -> None:
        self.selection = selection
        self.ratio = ratio
        self.importance = importance
        self.extraction = extraction
        self.local = local
        self.norm = norm
        self.compression = compression
        self.contribution = contribution
        self.aggregation = aggregation
        self.schedule = schedule
        self.server_update = server_update or NoServerUpdate()
        self.download = download or GlobalModel()

    @property
    def name(self) -> str:
        """Import path of the class, as checkpoints record it."""
        return f"{type(self).__module__}.{type(self).__qualname__}"

    def slots(self) -> dict[str, Part]:
        """Return the parts by slot name, in the order in which a round asks them."""
        return {
            "selection": self.selection,
            "ratio": self.ratio,
            "importance": self.importance,
            "extraction": self.extraction,
            "local": self.local,
            "norm": self.norm,
            "compression": self.compression,
            "contribution": self.contribution,
            "aggregation": self.aggregation,
            "schedule": self.schedule,
            "server_update": self.server_update,
            "download": self.download,
        }
