"""FlexCom."""

from __future__ import annotations

from typing import final

from fedlight.core.algorithm import Algorithm
from fedlight.core.schedule import Schedule
from fedlight.core.slots import Local, NormPolicy, Selection
from fedlight.parts.aggregation import CoverageMean
from fedlight.parts.compression import TimeMatchedLevel, TopK
from fedlight.parts.contribution import SampleCount
from fedlight.parts.extraction import Channels
from fedlight.parts.importance import PrefixOrder
from fedlight.parts.local import LeanLoop
from fedlight.parts.norm import RunningStatistics
from fedlight.parts.ratio import Fixed
from fedlight.parts.ratio.pace.pace import Target
from fedlight.parts.schedule import synchronous_or
from fedlight.parts.selection import UniformSelection


@final
class FlexCom(Algorithm):
    """Full models, and each client sends as much of its update as its link has time for, the rest later.

    L. Li, D. Shi, R. Hou, H. Li, M. Pan, Z. Han: To Talk or to Work: Flexible Communication Compression for Energy
    Efficient Federated Learning over Heterogeneous Mobile Edge Devices. INFOCOM 2021. Top-k with error memory, at a
    level of its own per device.

    Symbols: γ_n -> level; e_n -> the client's memory; H -> ``local``; p_n -> :class:`~fedlight.parts.SampleCount`.

    Differs from the paper (docs/algorithms/flexcom.md says why; only its abstract could be read):

    1. Levels match times instead of minimising energy under a convergence target: γ_n is the largest at which the
       client is back with the fastest. Times are learnt from rounds before; in the first everyone sends all.
    2. The compressor is top-k over the whole model with error feedback, and H is the same for all: recalled.
    3. Bytes are those of the cheapest coding, positions included.

    Args:
        clients_per_round: clients in each round; None: all.
        schedule: when the server moves, in place of ``clients_per_round``; None: a synchronous round.
        selection: which clients these are; None: drawn uniformly.
        local: how a client trains; None: one epoch of the lean loop.
        norm: what running statistics do; None: :class:`~fedlight.parts.RunningStatistics`.
        min_level: γ_min in (0, 1]; 1 sends all, which is FedAvg.
        target: whose time all others should meet: ``fastest``, ``median``, ``slowest`` or a quantile in [0, 1].
        decay: factor in [0, 1] on a client's memory each time that it is used.
    """

    def __init__(
        self,
        *,
        clients_per_round: int | None = None,
        schedule: Schedule | None = None,
        selection: Selection | None = None,
        local: Local | None = None,
        norm: NormPolicy | None = None,
        min_level: float = 0.01,
        target: Target = "fastest",
        decay: float = 1.0,
    ) -> None:
        super().__init__(
            selection=selection or UniformSelection(),
            ratio=Fixed(0.0),
            importance=PrefixOrder(),
            extraction=Channels(),
            local=local or LeanLoop(epochs=1),
            norm=norm or RunningStatistics(),
            compression=TopK(TimeMatchedLevel(min_level, target), decay),
            contribution=SampleCount(),
            aggregation=CoverageMean(),
            schedule=synchronous_or(schedule, clients_per_round),
        )
