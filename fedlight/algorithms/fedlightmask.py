"""FedLightMask."""

from __future__ import annotations

from typing import Literal, final

from fedlight.core.algorithm import Algorithm
from fedlight.core.schedule import Schedule
from fedlight.core.slots import Importance, Local, NormPolicy, Selection
from fedlight.errors import ConfigError
from fedlight.parts.aggregation.divisor import Divisor, of_divisor
from fedlight.parts.compression import NoCompression
from fedlight.parts.contribution import CosineGradient
from fedlight.parts.extraction import LayerRatios, Weights
from fedlight.parts.importance import Regrowth
from fedlight.parts.importance.criterion import Criterion, of_criterion
from fedlight.parts.local import LeanLoop
from fedlight.parts.norm import RunningStatistics
from fedlight.parts.ratio import DiscountedUCB, PerClient, Reward
from fedlight.parts.schedule import synchronous_or
from fedlight.parts.selection import UniformSelection


@final
class FedLightMask(Algorithm):
    """FedLight with weight masks: the founding chapters' unstructured method.

    One round: (1) per client a discounted UCB over ratios plays α_n, rewarded by Δvalue_n / |T_n - T̄|; (2) the weights
    that matter least are masked, every ΔT rounds until T_end; (3) the client trains under its mask; (4) updates are
    merged by the clients' cosine-gradient contribution r_n (Xu et al., NeurIPS 2021, CGSV).

    Symbols and what it does differently are those of :class:`~fedlight.algorithms.FedLight`, and p^t -> cosine exchange
    of :class:`~fedlight.parts.Weights`, regrowth -> ``regrow``.

    Differs from the chapters beyond FedLight (docs/algorithms/fedlightmask.md says why):

    1. Biases, norms and positions are never masked.
    2. Kernels stay dense, so masks save bytes and no MACs, unless ``kernels="sparse"`` prices them as sparse ones.
    3. A weight that comes back takes the global model's value, which other clients have trained meanwhile.

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
        criterion: ``magnitude``, ``abs_change``, ``recent_change``, ``abs_grad``, ``sq_grad`` or ``taylor``.
        importance: what matters, as a part with scores per weight; None: what ``criterion`` names.
        regrow: what comes back at an exchange: ``score``, by the same criterion, or ``gradient``, by |g| (RigL), which
            needs ``prune_until``.
        scope: ``layer`` or ``global``.
        layers: how the ratio is spread over layers; None: evenly.
        prune_every: rounds between two prunings.
        prune_until: last round that prunes, after which maps settle; None: maps are drawn anew at every pruning.
        support: ``covered`` or ``full``.
        moving_average: γ in [0, 1).
        divisor: ``coverage`` or ``clients``.
        update_norm: length that updates are scaled to; None: as they are.
        kernels: ``dense`` or ``sparse``.
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
        regrow: Literal["score", "gradient"] = "score",
        scope: Literal["layer", "global"] = "layer",
        layers: LayerRatios | None = None,
        prune_every: int = 1,
        prune_until: int | None = None,
        support: Literal["covered", "full"] = "covered",
        moving_average: float = 0.95,
        divisor: Divisor = "coverage",
        update_norm: float | None = None,
        kernels: Literal["dense", "sparse"] = "dense",
    ) -> None:
        if regrow not in ("score", "gradient"):
            raise ConfigError(f"regrow={regrow!r} is unknown to FedLightMask: use 'score' or 'gradient'")
        if regrow == "gradient" and prune_until is None:
            raise ConfigError("regrow='gradient' exchanges weights up to a last round: set prune_until")
        importance = importance or of_criterion(criterion, prune_every, by_entry=True)
        super().__init__(
            selection=selection or UniformSelection(),
            ratio=PerClient(DiscountedUCB(ratios, discount, bonus_scale), Reward(value)),
            importance=importance if regrow == "score" else Regrowth(importance),
            extraction=Weights(
                scope=scope,
                layers=layers,
                kernels=kernels,
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
