"""FedMP."""

from __future__ import annotations

from typing import Literal, final

from fedlight.core.algorithm import Algorithm
from fedlight.core.schedule import Schedule
from fedlight.core.slots import Local, NormPolicy, Selection
from fedlight.parts.aggregation import ResidualRecovery
from fedlight.parts.compression import NoCompression
from fedlight.parts.contribution import Uniform
from fedlight.parts.extraction import Channels
from fedlight.parts.importance import Magnitude
from fedlight.parts.local import LeanLoop
from fedlight.parts.norm import RunningStatistics
from fedlight.parts.ratio import EUCB, PerClient, Reward
from fedlight.parts.schedule import synchronous_or
from fedlight.parts.selection import UniformSelection


@final
class FedMP(Algorithm):
    """A bandit per client picks its ratio, filters go by their L1 norm, and residuals recover what was pruned.

    Z. Jiang, Y. Xu, H. Xu, Z. Wang, C. Qiao, Y. Zhao: FedMP: Federated Learning through Adaptive Model Pruning in
    Heterogeneous Edge Computing. ICDE 2022; Computation and Communication Efficient Federated Learning with Adaptive
    Model Pruning, IEEE TMC 2024.

    One round: α_n from client n's E-UCB; from each layer the filters of the smallest Σ|w| go, floor((1 - α_n) · size)
    stay; x^{k+1} = x^k + (1/N) Σ_n M_n (x_n - x^k); reward ΔLoss / |T_n - T̄|.

    Symbols: λ -> ``discount``; θ -> ``granularity``; α_max -> ``max_ratio``; ΔLoss -> ``value``; τ -> ``local``.
    Unknown from any source, so chosen here: λ, θ, α_max, which loss, the reward's scale, τ and learning rates.

    Differs from the paper (docs/algorithms/fedmp.md says why):

    1. The reward's denominator is at least ``floor`` of the mean time, and rewards are mapped to [0, 1] in each round.
    2. Layers whose channels must agree (residual sums) lose the same channels, ranked by the first of these layers.
    3. Residuals are exact; the paper may store them in fewer bits.
    4. One unit of every layer stays, and ratios stay below ``max_ratio``.
    5. A client's first return earns no reward where ``value`` compares it with the one before.

    Args:
        clients_per_round: clients in each round; None: all, as in the paper.
        schedule: when the server moves, in place of ``clients_per_round``; None: a synchronous round.
        selection: which clients these are; None: drawn uniformly.
        local: how a client trains; None: one epoch of the lean loop.
        norm: what running statistics do; None: :class:`~fedlight.parts.RunningStatistics`.
        discount: λ in (0, 1].
        granularity: θ: intervals up to this width aren't split.
        max_ratio: α_max: ratios stay below it; 0 never prunes, which is SynFL.
        bonus_scale: factor on the bandit's bonus; 1 is the textbook. Compare bandits at equal scales.
        value: ``global_loss``: fall of the round's mean training loss; ``local_loss``: of the client's own.
        floor: smallest denominator of the reward, as a fraction of the mean time.
        normalise: how a round's rewards are mapped: ``none``, ``minmax``, ``rank`` or ``tanh``.
    """

    def __init__(
        self,
        *,
        clients_per_round: int | None = None,
        schedule: Schedule | None = None,
        selection: Selection | None = None,
        local: Local | None = None,
        norm: NormPolicy | None = None,
        discount: float = 0.98,
        granularity: float = 0.05,
        max_ratio: float = 0.8,
        bonus_scale: float = 1.0,
        value: Literal["global_loss", "local_loss"] = "global_loss",
        floor: float = 0.1,
        normalise: Literal["none", "minmax", "rank", "tanh"] = "minmax",
    ) -> None:
        bandit = EUCB(0.0, max_ratio, discount, granularity, bonus_scale)
        super().__init__(
            selection=selection or UniformSelection(),
            ratio=PerClient(bandit, Reward(value, "gap", floor, normalise)),
            importance=Magnitude(p=1, reduction="first", normalizer=None),
            extraction=Channels(round_to=1, rounding="floor"),
            local=local or LeanLoop(epochs=1),
            norm=norm or RunningStatistics(),
            compression=NoCompression(),
            contribution=Uniform(),
            aggregation=ResidualRecovery(),
            schedule=synchronous_or(schedule, clients_per_round),
        )
