"""HeteroFL."""

from __future__ import annotations

from typing import Literal, final

from fedlight.core.algorithm import Algorithm
from fedlight.core.schedule import Schedule
from fedlight.core.slots import Local, NormPolicy, Selection
from fedlight.parts.aggregation import CoverageMean
from fedlight.parts.compression import NoCompression
from fedlight.parts.contribution import Uniform
from fedlight.parts.extraction import Channels
from fedlight.parts.importance import PrefixOrder
from fedlight.parts.local import LeanLoop
from fedlight.parts.norm import StaticStatistics
from fedlight.parts.ratio import PerLevel
from fedlight.parts.schedule import synchronous_or
from fedlight.parts.selection import UniformSelection


@final
class HeteroFL(Algorithm):
    """Nested widths: a client of level p trains the leading channels of every layer; coverage mean of all.

    Rows of the classifier are averaged over the clients that have the label, where the loss is masked.

    E. Diao, J. Ding, V. Tarokh: HeteroFL: Computation and Communication Efficient Federated Learning for Heterogeneous
    Clients. ICLR 2021. Algorithm 1; static batch normalisation and masked cross-entropy of §3.

    Symbols: width rate r_p -> 1 - ``levels[p]``; share of clients per level -> ``shares``; C·M ->
    ``clients_per_round``; E -> ``local.epochs``; "fix" / "dynamic" -> ``mode``.

    Differs from the paper and its code (docs/algorithms/heterofl.md says more):

    1. No scaler: it divides by r in training what BatchNorm or GroupNorm right behind it normalises again.
    2. Static batch statistics are estimated on the server's own examples, not on the union of all clients' data.
    3. k = round(r C) channels instead of ceil(r C); equal where r C is whole, as in all networks of the paper.
    4. Attention loses whole heads (of each key-value group), not the last dims of every head.
    5. Static levels by default; the headline table of the paper draws them anew in every round.

    Args:
        clients_per_round: clients in each round; None: all.
        schedule: when the server moves, in place of ``clients_per_round``; None: a synchronous round.
        selection: which clients these are; None: drawn uniformly.
        local: how a client trains; None: one epoch of the lean loop with ``masked_logits="zero"``, which needs class
            labels.
        levels: ratio removed at each level; None: 0, .5, .75, .875, .9375 (widths a to e of the paper).
        shares: share of the clients at each level, fractions that sum to 1 or counts; None: equal.
        mode: ``static`` or ``dynamic``, see :class:`~fedlight.parts.PerLevel`.
        norm: what running statistics do; None: :class:`~fedlight.parts.StaticStatistics`, which needs server data
            where the network has BatchNorm.
    """

    def __init__(
        self,
        *,
        clients_per_round: int | None = None,
        schedule: Schedule | None = None,
        selection: Selection | None = None,
        local: Local | None = None,
        levels: list[float] | None = None,
        shares: list[float] | None = None,
        mode: Literal["static", "dynamic"] = "static",
        norm: NormPolicy | None = None,
    ) -> None:
        super().__init__(
            selection=selection or UniformSelection(),
            ratio=PerLevel([0.0, 0.5, 0.75, 0.875, 0.9375] if levels is None else levels, shares, mode),
            importance=PrefixOrder(),
            extraction=Channels(round_to=1),
            local=local or LeanLoop(epochs=1, masked_logits="zero"),
            norm=norm or StaticStatistics(),
            compression=NoCompression(),
            contribution=Uniform(),
            aggregation=CoverageMean(label_rows=True),
            schedule=synchronous_or(schedule, clients_per_round),
        )
