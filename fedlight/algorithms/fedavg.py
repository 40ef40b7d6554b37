"""FedAvg."""

from __future__ import annotations

from typing import final

from fedlight.core.algorithm import Algorithm
from fedlight.core.schedule import Schedule
from fedlight.core.slots import Local, NormPolicy, Selection
from fedlight.parts.aggregation import CoverageMean
from fedlight.parts.compression import NoCompression
from fedlight.parts.contribution import SampleCount
from fedlight.parts.extraction import Channels
from fedlight.parts.importance import PrefixOrder
from fedlight.parts.local import LeanLoop
from fedlight.parts.norm import RunningStatistics
from fedlight.parts.ratio import Fixed
from fedlight.parts.schedule import synchronous_or
from fedlight.parts.selection import UniformSelection


@final
class FedAvg(Algorithm):
    """Full models, local epochs, mean weighted by examples.

    H. B. McMahan, E. Moore, D. Ramage, S. Hampson, B. Agüera y Arcas: Communication-Efficient Learning of Deep
    Networks from Decentralized Data. AISTATS 2017. Algorithm 1.

    Symbols: C·K -> ``clients_per_round``; E -> ``local.epochs``; B -> ``data.batch_size``; η -> the client module's
    own optimizer; n_k/n -> :class:`~fedlight.parts.SampleCount`.

    Differs from the paper:

    1. The server adds the mean *update* to the global weights instead of averaging weights. With the default server
       optimizer (SGD, lr 1) that is the same sum; with another one it is FedAvgM or FedAdam (Reddi et al. 2021).
    2. Float buffers (running statistics of BatchNorm) are averaged with the same weights; the paper has none. Integer
       buffers are left alone.

    Args:
        clients_per_round: clients in each round; None: all.
        schedule: when the server moves, in place of ``clients_per_round``; None: a synchronous round.
        selection: which clients these are; None: drawn uniformly.
        local: how a client trains; None: one epoch of the lean loop.
        norm: what running statistics do; None: :class:`~fedlight.parts.RunningStatistics`.
    """

    def __init__(
        self,
        *,
        clients_per_round: int | None = None,
        schedule: Schedule | None = None,
        selection: Selection | None = None,
        local: Local | None = None,
        norm: NormPolicy | None = None,
    ) -> None:
        super().__init__(
            selection=selection or UniformSelection(),
            ratio=Fixed(0.0),
            importance=PrefixOrder(),
            extraction=Channels(),
            local=local or LeanLoop(epochs=1),
            norm=norm or RunningStatistics(),
            compression=NoCompression(),
            contribution=SampleCount(),
            aggregation=CoverageMean(),
            schedule=synchronous_or(schedule, clients_per_round),
        )
