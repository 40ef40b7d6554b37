"""CGSV."""

from __future__ import annotations

from typing import Literal, final

from fedlight.core.algorithm import Algorithm
from fedlight.core.schedule import Schedule
from fedlight.core.slots import Local, NormPolicy, Selection
from fedlight.parts.aggregation import ResidualRecovery
from fedlight.parts.compression import NoCompression
from fedlight.parts.contribution import CosineGradient
from fedlight.parts.download import SparseRewards
from fedlight.parts.extraction import Channels
from fedlight.parts.importance import PrefixOrder
from fedlight.parts.local import LeanLoop
from fedlight.parts.norm import RunningStatistics
from fedlight.parts.ratio import Fixed
from fedlight.parts.schedule import synchronous_or
from fedlight.parts.selection import UniformSelection


@final
class CGSV(Algorithm):
    """Who contributes more is given more: weights by agreement, and the aggregate, sparsified, as a reward.

    X. Xu, L. Lyu, X. Ma, C. Miao, C. S. Foo, B. K. H. Low: Gradient Driven Rewards to Guarantee Fairness in
    Collaborative Machine Learning. NeurIPS 2021, 16104-16117.

    One round: u_n = Γ Δ_n / ‖Δ_n‖, against client n's own model w_n;  U = Σ r_n u_n;  ψ_n = cos(u_n, U);
    r_n ← γ r_n + (1 - γ) ψ_n, at least ``floor``, normalised;  q_n = tanh(β r_n) / max_m tanh(β r_m);  w_n ← w_n + the
    share q_n of U that is largest. Clients throw away what they trained; the server's model moves by all of U.

    Symbols: Γ -> ``radius``; γ (the paper's α) -> ``moving_average``; β -> ``altruism``; E -> ``local.epochs``.

    Differs from the published code (docs/algorithms/cgsv.md says more):

    1. Of a layer it keeps at most all entries but one, so that even q = 1 loses one; here q = 1 keeps all.
    2. Rounds of some clients only: r is moved, and rewards compared, among these.
    3. What a client downloads is priced as the full model, not as its reward.

    Args:
        clients_per_round: clients in each round; None: all, as published.
        schedule: when the server moves, in place of ``clients_per_round``; None: a synchronous round.
        selection: which clients these are; None: drawn uniformly.
        local: how a client trains; None: three epochs of the lean loop.
        norm: what running statistics do; None: :class:`~fedlight.parts.RunningStatistics`.
        radius: Γ > 0: length of every update, so the server moves by at most Γ a round.
        moving_average: γ in [0, 1).
        floor: smallest r before it is normalised, > 0.
        altruism: β > 0: the larger, the more equal the rewards; 1e7 gives everyone everything.
        scope: what is sparsified: every ``layer`` (as the code does), or the whole ``vector`` (as the paper says).
        convention: how ψ enters r: ``official``, or ``normalised`` so that γ means what it says.
    """

    def __init__(
        self,
        *,
        clients_per_round: int | None = None,
        schedule: Schedule | None = None,
        selection: Selection | None = None,
        local: Local | None = None,
        norm: NormPolicy | None = None,
        radius: float = 0.5,
        moving_average: float = 0.95,
        floor: float = 1e-3,
        altruism: float = 1.5,
        scope: Literal["layer", "vector"] = "layer",
        convention: Literal["official", "normalised"] = "official",
    ) -> None:
        super().__init__(
            selection=selection or UniformSelection(),
            ratio=Fixed(0.0),
            importance=PrefixOrder(),
            extraction=Channels(),
            local=local or LeanLoop(epochs=3),
            norm=norm or RunningStatistics(),
            compression=NoCompression(),
            contribution=CosineGradient("full", moving_average, floor, convention, start="nothing"),
            aggregation=ResidualRecovery(update_norm=radius),
            schedule=synchronous_or(schedule, clients_per_round),
            download=SparseRewards(altruism, scope),
        )
