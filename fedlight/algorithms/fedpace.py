"""FedPace."""

from __future__ import annotations

from typing import Literal, final

from fedlight.core.algorithm import Algorithm
from fedlight.core.schedule import Schedule
from fedlight.core.slots import Aggregation, Contribution, Importance, Local, NormPolicy, Ratio, Selection
from fedlight.parts.aggregation import CountMean, CoverageMean
from fedlight.parts.compression import NoCompression
from fedlight.parts.contribution import SampleCount
from fedlight.parts.extraction import Channels
from fedlight.parts.importance import Magnitude
from fedlight.parts.local import LeanLoop
from fedlight.parts.norm import RunningStatistics
from fedlight.parts.ratio import SpeedAligned, StagnationPace, Unaligned
from fedlight.parts.ratio.pace import Pace
from fedlight.parts.schedule import synchronous_or
from fedlight.parts.selection import UniformSelection


@final
class FedPace(Algorithm):
    """One pace for all, the largest submodel that keeps it for each: small and fast first, whole at last.

    fedlight's own. The decision how much each client trains is split in two. *Pace*, one number pair for everyone: the
    round's target time T* is a quantile over its clients of T_n(level), where level falls and then the quantile rises
    as progress slows. *Capability*, one number per client in closed form: α_n = the smallest ratio with T_n(α_n) ≤ T*
    under a cost model that is learned from observed times. Importance decides which units a client gets, contribution
    how much its update counts: θ ← θ + Σ r m Δ / Σ r m.

    Symbols: level, quantile -> ``pace``; α_max -> ``max_ratio``; r_n -> ``contribution``; scores -> ``importance``.

    Differs from the methods that it is closest to (docs/algorithms/fedpace.md says more):

    1. FedMP: there every client learns its own ratio by a bandit, within some tens of plays, and an entry is divided by
       all clients.
    2. SpeedRatio: the same alignment at a pace that never changes.
    3. The chapter's method (:class:`~fedlight.algorithms.FedLight`): its bandit per client is replaced by pace and
       alignment; learnt is what all clients feed.

    Args:
        clients_per_round: clients in each round; None: all.
        selection: which clients these are; None: drawn uniformly.
        schedule: when the server moves, in place of ``clients_per_round``; None: a synchronous round.
        local: how a client trains; None: one epoch of the lean loop.
        norm: what running statistics do; None: :class:`~fedlight.parts.RunningStatistics`.
        pace: None: :class:`~fedlight.parts.StagnationPace` from level .7 down to 0, then up to the slowest client's
            time; or ConstantPace, ScheduledPace, BanditPace.
        importance: what matters; None: :class:`~fedlight.parts.Magnitude` (L2 over all that a unit owns).
        contribution: how much an update counts; None: :class:`~fedlight.parts.SampleCount`, which did better than
            cosine weights (docs/results/ablation.md).
        aggregation: how updates merge; None: :class:`~fedlight.parts.CoverageMean`, and under a schedule that doesn't
            send cohorts :class:`~fedlight.parts.CountMean` with gain up to 3, under which stale updates move less (the
            coverage mean is restless there: docs/results/fashion_mnist.md).
        aligned: False: everyone gets the pace's level as ratio (:class:`~fedlight.parts.Unaligned`), and the
            constants of the alignment, ``max_ratio`` to ``cost_model``, don't count.
        max_ratio: largest ratio given to anyone.
        hysteresis: relative distance from T* within which a client keeps its ratio.
        start_ratio: ratio of the first round, in which nobody's speed is known.
        forgetting: weight of an observed time after one more of the same client, in (0, 1].
        cost_model: ``learned`` from observed times, or ``known``: the fleet's own, which no real server has.
        round_to: kept counts are multiples of this where a layer is large enough.
    """

    def __init__(
        self,
        *,
        clients_per_round: int | None = None,
        selection: Selection | None = None,
        schedule: Schedule | None = None,
        local: Local | None = None,
        norm: NormPolicy | None = None,
        pace: Pace | None = None,
        importance: Importance | None = None,
        contribution: Contribution | None = None,
        aggregation: Aggregation | None = None,
        aligned: bool = True,
        max_ratio: float = 0.95,
        hysteresis: float = 0.1,
        start_ratio: float = 0.8,
        forgetting: float = 0.9,
        cost_model: Literal["learned", "known"] = "learned",
        round_to: int = 8,
    ) -> None:
        schedule = synchronous_or(schedule, clients_per_round)
        if aggregation is None:
            aggregation = CoverageMean() if schedule.sends_cohorts else CountMean(max_gain=3.0)
        pace = pace or StagnationPace(end_quantile=1.0)
        ratio: Ratio = Unaligned(pace)
        if aligned:
            ratio = SpeedAligned(
                pace,
                max_ratio,
                hysteresis=hysteresis,
                start_ratio=start_ratio,
                forgetting=forgetting,
                cost_model=cost_model,
            )
        super().__init__(
            selection=selection or UniformSelection(),
            ratio=ratio,
            importance=importance or Magnitude(),
            extraction=Channels(round_to=round_to),
            local=local or LeanLoop(epochs=1),
            norm=norm or RunningStatistics(),
            compression=NoCompression(),
            contribution=contribution or SampleCount(),
            aggregation=aggregation,
            schedule=schedule,
        )
