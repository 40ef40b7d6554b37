"""UPFL."""

from __future__ import annotations

from typing import Literal, final

from fedlight.core.algorithm import Algorithm
from fedlight.core.schedule import Schedule
from fedlight.core.slots import Local, NormPolicy, Selection
from fedlight.errors import ConfigError
from fedlight.parts.aggregation import ResidualRecovery
from fedlight.parts.compression import NoCompression
from fedlight.parts.contribution import Uniform
from fedlight.parts.extraction import Channels
from fedlight.parts.importance import Magnitude
from fedlight.parts.local import LeanLoop
from fedlight.parts.norm import RunningStatistics
from fedlight.parts.ratio import EUCB, Fixed, Reward, Shared
from fedlight.parts.schedule import synchronous_or
from fedlight.parts.selection import UniformSelection


@final
class UPFL(Algorithm):
    """Uniform pruning: one ratio for everyone in a round; otherwise FedMP.

    The baseline "UP-FL" of Z. Jiang, Y. Xu, H. Xu, Z. Wang, C. Qiao, Y. Zhao: FedMP: Federated Learning through
    Adaptive Model Pruning in Heterogeneous Edge Computing, ICDE 2022. How its ratio is found isn't known: fixed
    (``mode="constant"``), or by one E-UCB that all clients feed (``mode="bandit"``), rewarded with
    ΔLoss / max_n T_n, since the distance from the mean time means nothing for a common ratio.

    Symbols: α -> ``ratio``; λ -> ``discount``; θ -> ``granularity``; α_max -> ``max_ratio``; τ -> ``local``.

    Differs from the paper (docs/algorithms/upfl.md says why):

    1. Both rules for the ratio are readings of ours; report both, and sweep the constant.
    2. The reward is mapped to [0, 1] among the last 20 rounds'.
    3. Coupled layers, exact residuals and one unit per layer at least, as in :class:`~fedlight.algorithms.FedMP`.

    Args:
        clients_per_round: clients in each round; None: all.
        schedule: when the server moves, in place of ``clients_per_round``; None: a synchronous round.
        selection: which clients these are; None: drawn uniformly.
        local: how a client trains; None: one epoch of the lean loop.
        norm: what running statistics do; None: :class:`~fedlight.parts.RunningStatistics`.
        mode: ``constant`` or ``bandit``.
        ratio: the constant ratio.
        discount: λ of the bandit, in (0, 1].
        granularity: θ of the bandit.
        max_ratio: α_max: the bandit's ratios stay below it.
        bonus_scale: factor on the bandit's bonus; 1 is the textbook.
    """

    def __init__(
        self,
        *,
        clients_per_round: int | None = None,
        schedule: Schedule | None = None,
        selection: Selection | None = None,
        local: Local | None = None,
        norm: NormPolicy | None = None,
        mode: Literal["constant", "bandit"] = "constant",
        ratio: float = 0.5,
        discount: float = 0.98,
        granularity: float = 0.05,
        max_ratio: float = 0.8,
        bonus_scale: float = 1.0,
    ) -> None:
        if mode not in ("constant", "bandit"):
            raise ConfigError(f"mode={mode!r} is unknown to UPFL: use 'constant' or 'bandit'")
        bandit = EUCB(0.0, max_ratio, discount, granularity, bonus_scale)
        super().__init__(
            selection=selection or UniformSelection(),
            ratio=Fixed(ratio) if mode == "constant" else Shared(bandit, Reward("global_loss", per="round_s")),
            importance=Magnitude(p=1, reduction="first", normalizer=None),
            extraction=Channels(round_to=1, rounding="floor"),
            local=local or LeanLoop(epochs=1),
            norm=norm or RunningStatistics(),
            compression=NoCompression(),
            contribution=Uniform(),
            aggregation=ResidualRecovery(),
            schedule=synchronous_or(schedule, clients_per_round),
        )
