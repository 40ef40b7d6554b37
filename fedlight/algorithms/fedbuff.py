"""FedBuff."""

from __future__ import annotations

from typing import final

from fedlight.core.algorithm import Algorithm
from fedlight.core.slots import Contribution, Local, NormPolicy, Selection
from fedlight.parts.aggregation import CountMean
from fedlight.parts.compression import NoCompression
from fedlight.parts.contribution import Uniform
from fedlight.parts.extraction import Channels
from fedlight.parts.importance import PrefixOrder
from fedlight.parts.local import LeanLoop
from fedlight.parts.norm import RunningStatistics
from fedlight.parts.ratio import Fixed
from fedlight.parts.schedule import Buffered, Staleness
from fedlight.parts.selection import UniformSelection


@final
class FedBuff(Algorithm):
    """Full models and a server that doesn't wait: it moves on every K updates, old ones counting less.

    J. Nguyen, K. Malik, H. Zhan, A. Yousefpour, M. Rabbat, M. Malek, D. Huba: Federated Learning with Buffered
    Asynchronous Aggregation. AISTATS 2022. Algorithm 1: W ← W - η_g · (1/K) Σ s(τ_n) Δ_n, s(τ) = 1/√(1 + τ).

    Symbols: K -> ``buffer``; concurrency M_c -> ``concurrency``; s -> ``staleness``; τ_n -> versions that an update is
    old; η_g -> the learning rate of ``model.server_optimizer``; Q local steps -> ``local``.

    Differs from the paper (docs/algorithms/fedbuff.md says why):

    1. Local work is counted in epochs of the client's own data by default, not in steps.
    2. What is back at one moment of simulated time is taken in before anybody is sent off.
    3. Float buffers (running statistics of BatchNorm) are averaged by the same weights; the paper has none.
    4. The official code divides s(τ) by s(1), a constant factor on η_g; here s(0) = 1 as in the paper.

    Args:
        buffer: K, updates per move of the server.
        concurrency: M_c, clients at work at any time; None: all.
        selection: which clients train; None: drawn uniformly.
        local: how a client trains; None: one epoch of the lean loop.
        norm: what running statistics do; None: :class:`~fedlight.parts.RunningStatistics`.
        staleness: weight of an update by its age; None: (1 + τ)^-½.
        contribution: weight of an update besides its age; None: all alike, as the official code has it.
    """

    def __init__(
        self,
        *,
        buffer: int = 10,
        concurrency: int | None = None,
        selection: Selection | None = None,
        local: Local | None = None,
        norm: NormPolicy | None = None,
        staleness: Staleness | None = None,
        contribution: Contribution | None = None,
    ) -> None:
        super().__init__(
            selection=selection or UniformSelection(),
            ratio=Fixed(0.0),
            importance=PrefixOrder(),
            extraction=Channels(),
            local=local or LeanLoop(epochs=1),
            norm=norm or RunningStatistics(),
            compression=NoCompression(),
            contribution=contribution or Uniform(),
            aggregation=CountMean(),
            schedule=Buffered(buffer, concurrency, staleness),
        )
