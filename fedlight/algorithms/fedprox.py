"""FedProx."""

from __future__ import annotations

from typing import final

from fedlight.core.algorithm import Algorithm
from fedlight.core.schedule import Schedule
from fedlight.core.slots import Local, NormPolicy, Selection
from fedlight.errors import ConfigError
from fedlight.parts.aggregation import CoverageMean
from fedlight.parts.compression import NoCompression
from fedlight.parts.contribution import SampleCount
from fedlight.parts.extraction import Channels
from fedlight.parts.importance import PrefixOrder
from fedlight.parts.local import LeanLoop, LocalWork, Proximal, RecipeLoop, TimeMatchedWork
from fedlight.parts.norm import RunningStatistics
from fedlight.parts.ratio import Fixed
from fedlight.parts.schedule import synchronous_or
from fedlight.parts.selection import UniformSelection


@final
class FedProx(Algorithm):
    """Full models, a pull back to the global weights, and as much local work as each client manages.

    T. Li, A. K. Sahu, M. Zaheer, M. Sanjabi, A. Talwalkar, V. Smith: Federated Optimization in Heterogeneous Networks.
    MLSys 2020. Algorithm 2: a client minimises F_n(w) + (μ/2)·‖w - w_t‖², inexactly, and what it got to counts.

    Symbols: K -> ``clients_per_round``; μ -> ``mu``; E -> ``local.epochs``; γ_n -> the share of the work that ``work``
    asks of a client; n_k/n -> :class:`~fedlight.parts.SampleCount`.

    Differs from the paper (docs/algorithms/fedprox.md says why):

    1. Clients are drawn uniformly and count by their examples, as in all of the paper's experiments; its algorithm 2
       draws by examples and counts alike.
    2. How much a client manages follows from its simulated speed by default; the paper's draw is ``Stragglers``.
    3. The pull enters the gradient before the optimizer, so that momentum sees it; the paper has plain SGD.
    4. No full gradients of all clients are computed for a log of their dissimilarity.

    Args:
        clients_per_round: clients in each round; None: all.
        schedule: when the server moves, in place of ``clients_per_round``; None: a synchronous round.
        selection: which clients these are; None: drawn uniformly.
        local: how a client trains; None: one epoch of the lean loop. ``mu`` and ``work`` are added to it.
        norm: what running statistics do; None: :class:`~fedlight.parts.RunningStatistics`.
        mu: μ >= 0; 0 is FedAvg with unequal work.
        adaptive: whether μ changes by 0.1 with the training loss (paper, section 5.3.2).
        work: who does less than the whole: :class:`~fedlight.parts.Stragglers`, :class:`~fedlight.parts.EqualWork`;
            None: what ``local`` has, else :class:`~fedlight.parts.TimeMatchedWork`, all finish with the fastest.

    Raises:
        ConfigError: a number out of its range, a local loop that has a proximal term of its own or can't have one.
    """

    def __init__(
        self,
        *,
        clients_per_round: int | None = None,
        schedule: Schedule | None = None,
        selection: Selection | None = None,
        local: Local | None = None,
        norm: NormPolicy | None = None,
        mu: float = 0.01,
        adaptive: bool = False,
        work: LocalWork | None = None,
    ) -> None:
        loop = local or LeanLoop(epochs=1)
        if not isinstance(loop, RecipeLoop):
            raise ConfigError(
                f"local of FedProx is {type(loop).__name__}, to which no proximal term can be added: "
                "use LeanLoop or TrainerLoop"
            )
        if work is None and loop.work is None:
            work = TimeMatchedWork()
        super().__init__(
            selection=selection or UniformSelection(),
            ratio=Fixed(0.0),
            importance=PrefixOrder(),
            extraction=Channels(),
            local=loop.with_terms(Proximal(mu, adaptive), work),
            norm=norm or RunningStatistics(),
            compression=NoCompression(),
            contribution=SampleCount(),
            aggregation=CoverageMean(),
            schedule=synchronous_or(schedule, clients_per_round),
        )
