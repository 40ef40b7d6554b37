"""FedAsync."""

from __future__ import annotations

from typing import final

from fedlight.core.algorithm import Algorithm
from fedlight.core.slots import Local, NormPolicy, Selection
from fedlight.errors import ConfigError
from fedlight.parts.aggregation import Mixing
from fedlight.parts.compression import NoCompression
from fedlight.parts.contribution import Uniform
from fedlight.parts.extraction import Channels
from fedlight.parts.importance import PrefixOrder
from fedlight.parts.local import LeanLoop, Proximal, RecipeLoop
from fedlight.parts.norm import RunningStatistics
from fedlight.parts.ratio import Fixed
from fedlight.parts.schedule import Buffered, Polynomial, Staleness
from fedlight.parts.selection import UniformSelection


@final
class FedAsync(Algorithm):
    """Full models and a server that mixes in every client's weights as they come, old ones less.

    C. Xie, S. Koyejo, I. Gupta: Asynchronous Federated Optimization. arXiv 1903.03934, 2019. Algorithm 1:
    W ← (1 - α_t) W + α_t w_n with α_t = α s(τ_n), the client minimising F_n(w) + (ρ/2)·‖w - W_τ‖² from version τ.

    Symbols: α -> ``alpha``; s -> ``staleness``; ρ -> ``rho``; t - τ -> versions that an update is old; γ and H ->
    the client module's own optimizer and ``local``.

    Differs from the paper (docs/algorithms/fedasync.md says why):

    1. Ages follow from simulated times; the paper draws them uniformly up to 4 or 16.
    2. As many clients as ``concurrency`` says are always at work; the paper's scheduler only says that it triggers
       some. What is back at one moment of simulated time is taken in before anybody is sent off.
    3. The pull enters the gradient before the optimizer, so that momentum sees it; the paper has plain SGD.
    4. Float buffers (running statistics of BatchNorm) are mixed as the weights are; the paper says nothing of them.
    5. A round, and with it a point of all curves and an evaluation, is one update of one client.

    Args:
        concurrency: clients at work at any time; None: all.
        selection: which clients train; None: drawn uniformly.
        local: how a client trains; None: one epoch of the lean loop. ``rho`` is added to it.
        norm: what running statistics do; None: :class:`~fedlight.parts.RunningStatistics`.
        alpha: α in (0, 1]; the paper halves it late, as a ``model.server_lr_scheduler`` does.
        staleness: s; None: (1 + τ)^-½. Or :class:`~fedlight.parts.Hinge`, :class:`~fedlight.parts.Constant`.
        rho: ρ >= 0; 0 is no pull.

    Raises:
        ConfigError: a number out of its range, or a local loop that can't have a proximal term.
    """

    def __init__(
        self,
        *,
        concurrency: int | None = None,
        selection: Selection | None = None,
        local: Local | None = None,
        norm: NormPolicy | None = None,
        alpha: float = 0.6,
        staleness: Staleness | None = None,
        rho: float = 0.005,
    ) -> None:
        loop = local or LeanLoop(epochs=1)
        if not isinstance(loop, RecipeLoop):
            raise ConfigError(
                f"local of FedAsync is {type(loop).__name__}, to which no proximal term can be added: "
                "use LeanLoop or TrainerLoop"
            )
        super().__init__(
            selection=selection or UniformSelection(),
            ratio=Fixed(0.0),
            importance=PrefixOrder(),
            extraction=Channels(),
            local=loop.with_terms(Proximal(rho) if rho else None, None),
            norm=norm or RunningStatistics(),
            compression=NoCompression(),
            contribution=Uniform(),
            aggregation=Mixing(alpha),
            schedule=Buffered(1, concurrency, staleness or Polynomial(0.5)),
        )
