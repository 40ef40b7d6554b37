"""FedDUAP."""

from __future__ import annotations

from typing import final

from fedlight.core.algorithm import Algorithm
from fedlight.core.schedule import Schedule
from fedlight.core.slots import Local, NormPolicy, Selection
from fedlight.parts.aggregation import ZeroFill
from fedlight.parts.compression import NoCompression
from fedlight.parts.contribution import SampleCount
from fedlight.parts.extraction import PrunedOnce
from fedlight.parts.importance import FeatureRank
from fedlight.parts.local import LeanLoop
from fedlight.parts.norm import RunningStatistics
from fedlight.parts.ratio import FromRound
from fedlight.parts.schedule import synchronous_or
from fedlight.parts.selection import UniformSelection
from fedlight.parts.server_update import DynamicServerUpdate


@final
class FedDUAP(Algorithm):
    """FedDU, and from one round on everyone trains the same network without the filters of low rank on server data.

    H. Zhang, J. Liu, J. Jia, Y. Zhou, H. Dai, D. Dou: FedDUAP: Federated Learning with Dynamic Update and Adaptive
    Pruning Using Shared Data on the Server. IJCAI 2022. Equations 2 to 6.

    At ``prune_round``: V = the ⌊R p*⌋-th smallest |w| of all R weights; layer l loses ⌊p_l d_l⌋ filters, p_l being the
    share of its weights below V, those whose feature maps have the lowest mean rank on the server's data (FedAP).

    Symbols: p* -> ``ratio``; the pruning round -> ``prune_round``; else as in :class:`~fedlight.algorithms.FedDU`.

    Differs from the paper (docs/algorithms/fedduap.md says why); besides what :class:`FedDU` says:

    1. p* is a setting. The paper finds it by gaps between eigenvalues of every participant's Hessian.
    2. Pruned filters are removed, with the next layer's inputs; the authors' code only masks them.
    3. Ranks are of 64 images, behind normalisation and ReLU, whatever stands there.

    Args:
        clients_per_round: clients in each round; None: all.
        schedule: when the server moves, in place of ``clients_per_round``; None: a synchronous round.
        selection: which clients these are; None: drawn uniformly.
        local: how clients and the server train; None: one epoch of the lean loop (the authors: five).
        norm: what running statistics do; None: :class:`~fedlight.parts.RunningStatistics`.
        scale: C >= 0; 0 is FedAvg with pruning.
        decay: decay in (0, 1] of the server's part by round.
        metric: name that the client's ``validation_step`` logs the accuracy by.
        prune_round: round, counted from 0, from which on everyone has the pruned network.
        ratio: p* in [0, 1); 0 is FedDU.
    """

    def __init__(
        self,
        *,
        clients_per_round: int | None = None,
        schedule: Schedule | None = None,
        selection: Selection | None = None,
        local: Local | None = None,
        norm: NormPolicy | None = None,
        scale: float = 1.0,
        decay: float = 0.999,
        metric: str = "val/accuracy",
        prune_round: int = 2,
        ratio: float = 0.3,
    ) -> None:
        loop = local or LeanLoop(epochs=1)
        super().__init__(
            selection=selection or UniformSelection(),
            ratio=FromRound(ratio, prune_round),
            importance=FeatureRank(),
            extraction=PrunedOnce(),
            local=loop,
            norm=norm or RunningStatistics(),
            compression=NoCompression(),
            contribution=SampleCount(),
            aggregation=ZeroFill(),  # what all have lost becomes 0 in the global model
            schedule=synchronous_or(schedule, clients_per_round),
            server_update=DynamicServerUpdate(loop, scale, decay, metric=metric),
        )
