"""SpeedRatio."""

from __future__ import annotations

from typing import Literal, final

from fedlight.core.algorithm import Algorithm
from fedlight.core.schedule import Schedule
from fedlight.core.slots import Importance, Local, NormPolicy, Selection
from fedlight.parts.aggregation import CoverageMean
from fedlight.parts.compression import NoCompression
from fedlight.parts.contribution import SampleCount
from fedlight.parts.extraction import Channels
from fedlight.parts.importance import Magnitude
from fedlight.parts.local import LeanLoop
from fedlight.parts.norm import RunningStatistics
from fedlight.parts.ratio import ConstantPace, SpeedAligned
from fedlight.parts.schedule import synchronous_or
from fedlight.parts.selection import UniformSelection


@final
class SpeedRatio(Algorithm):
    """Capability decides how many: every client gets the largest submodel that it finishes in a common time.

    fedlight's own, and the control that a learnt ratio must beat. Ratios in closed form under a cost model, T_n(α) =
    download + compute + upload, whose coefficients are learned online from observed times. Which units stay is decided
    by their L2 norm, and entries are averaged over the clients that hold them.

    Symbols: T* -> ``target`` and ``min_ratio``; α_n -> the smallest ratio with T_n(α_n) ≤ T*.

    Differs from the papers it is closest to:

    1. FedMP (Jiang et al., ICDE 2022): there a bandit per client looks for the ratio, filters are ranked by L1 in each
       layer, and an entry is divided by all clients (residual recovery).
    2. HeteroFL (Diao et al., ICLR 2021): there a client declares its level, and the leading channels are kept.

    Args:
        clients_per_round: clients in each round; None: all.
        schedule: when the server moves, in place of ``clients_per_round``; None: a synchronous round.
        selection: which clients these are; None: drawn uniformly.
        local: how a client trains; None: one epoch of the lean loop.
        norm: what running statistics do; None: :class:`~fedlight.parts.RunningStatistics`.
        target: whose time is common: ``fastest``, ``median``, or a quantile in [0, 1] of the round's clients.
        min_ratio: ratio of those who set the pace. 0 lets the fastest train the full model; above 0 rounds are shorter
            and nobody trains all of it at once.
        max_ratio: largest ratio given to anyone.
        whole_after_s: simulated seconds, >= 0, after which everyone trains the whole model and rounds wait for the
            slowest: with much data per client the last point of accuracy needs it (docs/results/fashion_mnist.md).
            None: never.
        importance: what matters; None: :class:`~fedlight.parts.Magnitude` (L2 over all that a unit owns).
        cost_model: ``learned`` from observed times, or ``known``: the fleet's own, which no real server has.
        round_to: kept counts are multiples of this where a layer is large enough.
    """

    def __init__(
        self,
        *,
        clients_per_round: int | None = None,
        schedule: Schedule | None = None,
        selection: Selection | None = None,
        local: Local | None = None,
        norm: NormPolicy | None = None,
        target: Literal["fastest", "median"] | float = "fastest",
        min_ratio: float = 0.3,
        max_ratio: float = 0.95,
        whole_after_s: float | None = None,
        importance: Importance | None = None,
        cost_model: Literal["learned", "known"] = "learned",
        round_to: int = 8,
    ) -> None:
        super().__init__(
            selection=selection or UniformSelection(),
            ratio=SpeedAligned(ConstantPace(min_ratio, target, whole_after_s), max_ratio, cost_model=cost_model),
            importance=importance or Magnitude(),
            extraction=Channels(round_to=round_to),
            local=local or LeanLoop(epochs=1),
            norm=norm or RunningStatistics(),
            compression=NoCompression(),
            contribution=SampleCount(),
            aggregation=CoverageMean(),
            schedule=synchronous_or(schedule, clients_per_round),
        )
