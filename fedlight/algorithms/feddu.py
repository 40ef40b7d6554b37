"""FedDU."""

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
from fedlight.parts.server_update import DynamicServerUpdate


@final
class FedDU(Algorithm):
    """FedAvg, and a server that trains on data of its own, less and less as the model learns.

    H. Zhang, J. Liu, J. Jia, Y. Zhou, H. Dai, D. Dou: FedDUAP: Federated Learning with Dynamic Update and Adaptive
    Pruning Using Shared Data on the Server. IJCAI 2022. Equations 2 to 5.

    One round: w½ = Σ (n_k / n') w_k; w = w½ + a (w_srv - w½), with w_srv trained from w½ on the server's data and
    a = (1 - acc) n₀ D(P') / (n₀ D(P') + n' D(P₀)) · C · decay^t.

    Symbols: C -> ``scale``; decay -> ``decay``; E and η -> ``local`` and the client module's optimizer, for clients and
    server alike; n₀ -> ``data.server_fraction``; a = τ_eff / τ.

    Differs from the paper (docs/algorithms/feddu.md says why):

    1. acc is measured on one half of the server's data, and the server trains on the other.
    2. D(P') = D(P₀) = 0 is guarded by an eps, and a ≤ 0.001 skips the server's training, as the authors' code does.
    3. The server goes back by interpolation, which is the paper's step for plain SGD only; so does the authors' code.
    4. No rollback and no dropped clients by test loss: an update is left out only if it isn't finite.

    Args:
        clients_per_round: clients in each round; None: all.
        schedule: when the server moves, in place of ``clients_per_round``; None: a synchronous round.
        selection: which clients these are; None: drawn uniformly.
        local: how clients and the server train; None: one epoch of the lean loop (the authors: five).
        norm: what running statistics do; None: :class:`~fedlight.parts.RunningStatistics`.
        scale: C >= 0; 0 is FedAvg.
        decay: decay in (0, 1] of the server's part by round.
        metric: name that the client's ``validation_step`` logs the accuracy by.
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
    ) -> None:
        loop = local or LeanLoop(epochs=1)
        super().__init__(
            selection=selection or UniformSelection(),
            ratio=Fixed(0.0),
            importance=PrefixOrder(),
            extraction=Channels(),
            local=loop,
            norm=norm or RunningStatistics(),
            compression=NoCompression(),
            contribution=SampleCount(),
            aggregation=CoverageMean(),
            schedule=synchronous_or(schedule, clients_per_round),
            server_update=DynamicServerUpdate(loop, scale, decay, metric=metric),
        )
