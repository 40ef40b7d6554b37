"""FedLight."""

from __future__ import annotations

from typing import Literal, final

from fedlight.core.algorithm import Algorithm
from fedlight.core.schedule import Schedule
from fedlight.core.slots import Importance, Local, NormPolicy, Selection
from fedlight.parts.aggregation.divisor import Divisor, of_divisor
from fedlight.parts.compression import NoCompression
from fedlight.parts.contribution import CosineGradient
from fedlight.parts.extraction import Channels
from fedlight.parts.importance.criterion import Criterion, of_criterion
from fedlight.parts.local import LeanLoop
from fedlight.parts.norm import RunningStatistics
from fedlight.parts.ratio import DiscountedUCB, PerClient, Reward
from fedlight.parts.schedule import synchronous_or
from fedlight.parts.selection import UniformSelection


@final
class FedLight(Algorithm):
    """The founding chapters' method: a bandit per client decides how much, a criterion which, contribution the weight.

    One round: (1) per client a discounted UCB over ratios plays α_n, rewarded by Δvalue_n / |T_n - T̄|; (2) the units
    that matter least go, every ΔT rounds until T_end; (3) the client trains; (4) updates are merged by the clients'
    cosine-gradient contribution r_n (Xu et al., NeurIPS 2021, CGSV).

    Symbols: arms α -> ``ratios``; λ -> ``discount``; ΔT -> ``prune_every``; T_end -> ``prune_until``; p^t -> cosine
    exchange (:class:`~fedlight.parts.Channels`); criterion |θ|, |θ^t - θ^0|, |g|, g², (g·θ)² -> ``criterion``;
    γ -> ``moving_average``; Γ -> ``update_norm``.

    Differs from the chapters (docs/algorithms/fedlight.md says why):

    1. The reward's denominator is at least a tenth of the mean time, and rewards are mapped to [0, 1] in every round.
    2. The exploration bonus is scaled by ``bonus_scale``, ¼ by default; 1 is the textbook.
    3. ψ is the cosine on the client's own coordinates; ``support="full"`` is as published.
    4. r weighs raw updates; ``update_norm`` gives the normalised aggregation.
    5. An entry is divided by the clients that hold it; ``divisor="clients"`` divides by all.
    6. Scores are one for all clients unless ``importance`` is :class:`~fedlight.parts.MixedImportance`, by which a
       client's own data decide for itself alone.

    Args:
        clients_per_round: clients in each round; None: all.
        schedule: when the server moves, in place of ``clients_per_round``; None: a synchronous round.
        selection: which clients these are; None: drawn uniformly.
        local: how a client trains; None: one epoch of the lean loop.
        norm: what running statistics do; None: :class:`~fedlight.parts.RunningStatistics`.
        ratios: the bandit's arms; None: 0, .2, .4, .6, .8.
        discount: λ in (0, 1].
        bonus_scale: factor on the bandit's bonus.
        value: ``contribution`` (rise of ψ) or ``local_loss`` (its fall).
        criterion: ``magnitude``, ``abs_change`` (|θ^t - θ^0|), ``recent_change`` (since the last pruning), or one
            of the statistics that clients sum up while they train. Not used where ``importance`` is given.
        importance: what matters, as a part; None: what ``criterion`` names.
        scope: ``layer`` or ``global``.
        prune_every: rounds between two prunings.
        prune_until: last round that prunes, after which maps settle; None: maps are drawn anew at every pruning.
        support: ``covered`` or ``full``.
        moving_average: γ in [0, 1).
        divisor: ``coverage`` or ``clients``.
        update_norm: length that updates are scaled to; None: as they are.
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
        discount: float = 0.98,
        bonus_scale: float = 0.25,
        value: Literal["contribution", "local_loss"] = "contribution",
        criterion: Criterion = "magnitude",
        importance: Importance | None = None,
        scope: Literal["layer", "global"] = "layer",
        prune_every: int = 1,
        prune_until: int | None = None,
        support: Literal["covered", "full"] = "covered",
        moving_average: float = 0.95,
        divisor: Divisor = "coverage",
        update_norm: float | None = None,
        round_to: int = 8,
    ) -> None:
        super().__init__(
            selection=selection or UniformSelection(),
            ratio=PerClient(DiscountedUCB(ratios, discount, bonus_scale), Reward(value)),
            importance=importance or of_criterion(criterion, prune_every),
            extraction=Channels(
                scope=scope,
                round_to=round_to,
                every=prune_every,
                until=prune_until,
                exchange="all" if prune_until is None else "cosine",
            ),
            local=local or LeanLoop(epochs=1),
            norm=norm or RunningStatistics(),
            compression=NoCompression(),
            contribution=CosineGradient(support, moving_average),
            aggregation=of_divisor(divisor, update_norm),
            schedule=synchronous_or(schedule, clients_per_round),
        )
