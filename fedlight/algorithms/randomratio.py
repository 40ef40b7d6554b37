"""RandomRatio."""

from __future__ import annotations

from typing import final

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
from fedlight.parts.ratio import RandomChoice
from fedlight.parts.schedule import synchronous_or
from fedlight.parts.selection import UniformSelection


@final
class RandomRatio(Algorithm):
    """A control: every client draws its ratio in every round, uniformly; all else is SpeedRatio's.

    fedlight's own, without a paper. What a bandit over ratios gains must show against it: at some tens of rounds the
    textbook E-UCB plays like it.

    Symbols: arms α -> ``ratios``.

    Differs from the methods that it is a control of:

    1. FedMP: there a bandit per client looks for the ratio, filters go by L1, and residuals are recovered. Take its
       parts for a control of the bandit alone: ``FedMP()`` with ``ratio`` replaced by ``RandomChoice``.
    2. SpeedRatio and FedPace: there the ratio follows from the client's speed.

    Args:
        clients_per_round: clients in each round; None: all.
        schedule: when the server moves, in place of ``clients_per_round``; None: a synchronous round.
        selection: which clients these are; None: drawn uniformly.
        local: how a client trains; None: one epoch of the lean loop.
        norm: what running statistics do; None: :class:`~fedlight.parts.RunningStatistics`.
        ratios: what is drawn from; None: 0, .2, .4, .6, .8. Give it the arms of the bandit that it is compared to.
        importance: what matters; None: :class:`~fedlight.parts.Magnitude` (L2 over all that a unit owns).
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
        ratios: list[float] | None = None,
        importance: Importance | None = None,
        round_to: int = 8,
    ) -> None:
        super().__init__(
            selection=selection or UniformSelection(),
            ratio=RandomChoice([0.0, 0.2, 0.4, 0.6, 0.8] if ratios is None else ratios),
            importance=importance or Magnitude(),
            extraction=Channels(round_to=round_to),
            local=local or LeanLoop(epochs=1),
            norm=norm or RunningStatistics(),
            compression=NoCompression(),
            contribution=SampleCount(),
            aggregation=CoverageMean(),
            schedule=synchronous_or(schedule, clients_per_round),
        )
