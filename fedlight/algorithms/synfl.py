"""SynFL."""

from __future__ import annotations

from typing import final

from fedlight.core.algorithm import Algorithm
from fedlight.core.schedule import Schedule
from fedlight.core.slots import Local, NormPolicy, Selection
from fedlight.parts.aggregation import ResidualRecovery
from fedlight.parts.compression import NoCompression
from fedlight.parts.contribution import Uniform
from fedlight.parts.extraction import Channels
from fedlight.parts.importance import PrefixOrder
from fedlight.parts.local import LeanLoop
from fedlight.parts.norm import RunningStatistics
from fedlight.parts.ratio import Fixed
from fedlight.parts.schedule import synchronous_or
from fedlight.parts.selection import UniformSelection


@final
class SynFL(Algorithm):
    """Plain synchronous training: everyone trains and sends the whole model, and a round lasts as long as the slowest.

    The baseline "Syn-FL" of Z. Jiang, Y. Xu, H. Xu, Z. Wang, C. Qiao, Y. Zhao: FedMP: Federated Learning through
    Adaptive Model Pruning in Heterogeneous Edge Computing, ICDE 2022: FedMP at ratio 0 without a bandit,
    x^{k+1} = (1/N) Σ_n x_n^{k+1}, T^k = max_n T_n^k.

    Symbols: N -> ``clients_per_round`` (all workers in the paper); τ -> ``local``.

    Differs from the paper:

    1. The server adds the mean update to the global weights instead of averaging weights, as in
       :class:`~fedlight.algorithms.FedAvg`.
    2. Clients count alike, as in FedMP, so that ratio 0 is what the two share; FedAvg counts examples.

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
            extraction=Channels(round_to=1),
            local=local or LeanLoop(epochs=1),
            norm=norm or RunningStatistics(),
            compression=NoCompression(),
            contribution=Uniform(),
            aggregation=ResidualRecovery(),
            schedule=synchronous_or(schedule, clients_per_round),
        )
