"""FedNova."""

from __future__ import annotations

from typing import final

from fedlight.core.algorithm import Algorithm
from fedlight.core.schedule import Schedule
from fedlight.core.slots import Local, NormPolicy, Selection
from fedlight.errors import ConfigError
from fedlight.parts.aggregation import StepNormalized
from fedlight.parts.compression import NoCompression
from fedlight.parts.contribution import SampleCount
from fedlight.parts.extraction import Channels
from fedlight.parts.importance import PrefixOrder
from fedlight.parts.local import LeanLoop, LocalWork, Proximal, RecipeLoop
from fedlight.parts.norm import RunningStatistics
from fedlight.parts.ratio import Fixed
from fedlight.parts.schedule import synchronous_or
from fedlight.parts.selection import UniformSelection


@final
class FedNova(Algorithm):
    """Updates count per unit of local work, so that clients which take more steps don't pull the model their way.

    J. Wang, Q. Liu, H. Liang, G. Joshi, H. V. Poor: Tackling the Objective Inconsistency Problem in Heterogeneous
    Federated Optimization. NeurIPS 2020.

    One round: d_k = (w - w_k) / ‖a_k‖₁; w ← w - τ_eff Σ p_k d_k, τ_eff = Σ p_k ‖a_k‖₁, and Σ p_k τ_k
    where μ > 0: the official code's sum.

    Symbols: ρ -> ``momentum``; μ -> ``mu``; η -> ``lr``; τ_k -> ``local`` and ``work``; p_k ->
    :class:`~fedlight.parts.SampleCount`; gmf -> momentum of ``model.server_optimizer`` (docs/server_optimizers.md).

    Differs from the paper (docs/algorithms/fednova.md says why):

    1. With momentum and a proximal term ‖a‖₁ is that of SGD with both; the authors' code adds two sums up.
    2. The proximal term enters the gradient before the momentum, not after it.
    3. Under submodels the sum goes by coordinate; the paper has full models only.
    4. Float buffers are averaged by examples, without τ_eff.

    Args:
        clients_per_round: clients in each round; None: all.
        schedule: when the server moves, in place of ``clients_per_round``; None: a synchronous round.
        selection: which clients these are; None: drawn uniformly.
        local: how a client trains; None: one epoch of the lean loop (the authors: two).
        norm: what running statistics do; None: :class:`~fedlight.parts.RunningStatistics`.
        momentum: ρ in [0, 1) of the clients' SGD. It says what their optimizer does and doesn't set it; if
            it has another, the first round is refused.
        mu: factor of the proximal term, which is added to ``local``; 0 for none.
        lr: η of the clients' SGD, which ``mu`` above 0 needs; likewise.
        work: who does less than the whole, :class:`~fedlight.parts.Stragglers` for example; None: what ``local`` has.

    Raises:
        ConfigError: a number out of its range, ``mu`` without ``lr``, or a local loop that takes no proximal term.
    """

    def __init__(
        self,
        *,
        clients_per_round: int | None = None,
        schedule: Schedule | None = None,
        selection: Selection | None = None,
        local: Local | None = None,
        norm: NormPolicy | None = None,
        momentum: float = 0.0,
        mu: float = 0.0,
        lr: float | None = None,
        work: LocalWork | None = None,
    ) -> None:
        loop = local or LeanLoop(epochs=1)
        if not mu >= 0:
            raise ConfigError(f"mu={mu} of FedNova is no pull: use 0 (none) or more, 0.005 for example")
        if lr is not None and not lr > 0:
            raise ConfigError(f"lr={lr} of FedNova must be above 0: the learning rate of the clients' SGD")
        if mu != 0 and lr is None:
            raise ConfigError(f"mu={mu} of FedNova needs lr, the learning rate of the clients' SGD: set both")
        if mu != 0 or work is not None:
            if not isinstance(loop, RecipeLoop):
                raise ConfigError(
                    f"local of FedNova is {type(loop).__name__}: mu and work need LeanLoop or TrainerLoop"
                )
            loop = loop.with_terms(Proximal(mu) if mu != 0 else None, work)
        super().__init__(
            selection=selection or UniformSelection(),
            ratio=Fixed(0.0),
            importance=PrefixOrder(),
            extraction=Channels(),
            local=loop,
            norm=norm or RunningStatistics(),
            compression=NoCompression(),
            contribution=SampleCount(),
            aggregation=StepNormalized(momentum, (lr or 0.0) * mu),
            schedule=synchronous_or(schedule, clients_per_round),
        )
