"""PruneFL."""

from __future__ import annotations

from typing import Literal, final

from fedlight.core.algorithm import Algorithm
from fedlight.core.schedule import Schedule
from fedlight.core.slots import Local, NormPolicy, Selection
from fedlight.parts.aggregation.shared_map_mean import SharedMapMean
from fedlight.parts.compression import NoCompression
from fedlight.parts.contribution import SampleCount
from fedlight.parts.extraction import SizeSearch
from fedlight.parts.importance import AccumulatedSquares
from fedlight.parts.initial_client import InitialClient
from fedlight.parts.local import LeanLoop
from fedlight.parts.norm import RunningStatistics
from fedlight.parts.ratio.searched import SearchedRatio
from fedlight.parts.schedule import synchronous_or


@final
class PruneFL(Algorithm):
    """One sparse model for all, of the size that lowers the loss most per second: greedy on g² / t.

    Y. Jiang, S. Wang, V. Valls, B. J. Ko, W.-H. Lee, K. K. Leung, L. Tassiulas: Model Pruning Enables Efficient
    Federated Learning on Edge Devices. IEEE TNNLS 2022 (arXiv 1909.12326).

    Stage 1: one client trains and prunes alone. Stage 2: federated rounds under one mask; every ``prune_every`` rounds
    the set of weights is chosen anew to maximise Σ g_j² / (c + Σ t_j), where the largest of those kept are protected.

    Symbols: ρ_0 -> ``prunable``; H -> ``half_life``; c, t_j -> ``fixed_s``, ``s_per_mac``, ``s_per_byte``; τ ->
    ``local.steps``; ADJ_INTERVAL -> ``prune_every``; IP_MAX_ROUNDS -> ``initial_rounds``; IP_ADJ_INTERVAL ->
    ``initial_every``; IP_THR -> ``tolerance``.

    Differs from the paper and its code (docs/algorithms/prunefl.md says why):

    1. The seconds that a weight costs are learned from observed times, of the mean client, unless they are given.
    2. A weight that comes back starts at 0; in the authors' code it resumes where it was pruned.
    3. Stage 1 counts in federated rounds of one client, each a local round of its whole data, without the wait for an
       accuracy of 1.5 / classes. Its gradients are dense, so weights can come back in it too.
    4. ``structured=True`` removes whole channels by the same rule, which the paper does not.

    Args:
        clients_per_round: clients in each round after stage 1; None: all, as in the paper.
        schedule: when the server moves, in place of ``clients_per_round``; None: a synchronous round.
        selection: which clients these are after stage 1; None: drawn uniformly.
        local: how a client trains; None: one epoch of the lean loop (the paper: five steps).
        norm: what running statistics do; None: :class:`~fedlight.parts.RunningStatistics`.
        structured: channels instead of weights.
        initial_rounds: most rounds of stage 1, in which one client trains alone; 0: none. It can settle from the fifth
            pruning on.
        initial_every: rounds between two prunings in stage 1.
        prune_every: rounds between two prunings in stage 2.
        prunable: ρ_0 in (0, 1].
        half_life: H, rounds in which ρ halves.
        tolerance: relative change of the size below which stage 1 has settled, five times in a row.
        fixed_s: c, seconds of a round without weights; None: learned, and so are the next two.
        s_per_mac: seconds per multiply-accumulate of one example's forward pass, over a whole round.
        s_per_byte: seconds per byte of the submodel, both ways together.
        kernels: ``sparse``: masked weights cost no MACs, as with the authors' kernels; ``dense``: they do.
    """

    def __init__(
        self,
        *,
        clients_per_round: int | None = None,
        schedule: Schedule | None = None,
        selection: Selection | None = None,
        local: Local | None = None,
        norm: NormPolicy | None = None,
        structured: bool = False,
        initial_rounds: int = 10,
        initial_every: int = 1,
        prune_every: int = 50,
        prunable: float = 0.3,
        half_life: float = 10_000.0,
        tolerance: float = 0.1,
        fixed_s: float | None = None,
        s_per_mac: float | None = None,
        s_per_byte: float | None = None,
        kernels: Literal["dense", "sparse"] = "sparse",
    ) -> None:
        super().__init__(
            selection=InitialClient(selection),
            ratio=SearchedRatio(fixed_s, s_per_mac, s_per_byte),
            importance=AccumulatedSquares(),
            extraction=SizeSearch(
                structured, initial_rounds, initial_every, prune_every, prunable, half_life, tolerance, kernels
            ),
            local=local or LeanLoop(epochs=1),
            norm=norm or RunningStatistics(),
            compression=NoCompression(),
            contribution=SampleCount(),
            aggregation=SharedMapMean(),
            schedule=synchronous_or(schedule, clients_per_round),
        )
