"""What the server knows when it decides, and what it learns of a client that is back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from fedlight.core.types.work import Price, Timing, Work
from fedlight.errors import ConfigError
from fedlight.submodels import SubmodelPlan

if TYPE_CHECKING:
    from fedlight.core.desk import ServerDesk

Reduce = Callable[[Tensor], None]
"""Sums a tensor in place over the processes that share the cohort (does nothing in a run of one process)."""


def _no_class(client: int) -> str:
    return ""


def _unknown_s(client: int, work: Work) -> float:
    raise ConfigError("nobody knows how long work takes here: let the cost model be learned, not known")


@dataclass(frozen=True)
class RoundState:
    """What the server knows when it decides; parts read it and never write.

    Attributes:
        round_idx: round, counted from 0.
        seed: the run's seed.
        now_s: simulated time.
        plan: the submodel plan of the client's architecture.
        weights: the global state dict.
        num_examples: int64[num_clients].
        price: (client, ratio, share, level) to the work that a submodel at that ratio means for that client.
        contributions: the last contribution score of every client that ever had one.
        desk: the server's own data at work; None where it holds none.
        expected_s: (client, work) to the seconds that the fleet's simulation expects, without a round's noise. No real
            server has it: it is for cost models that are called ``known``.
        device: client to the name of its device class, which it tells as it registers; empty where there are none.
    """

    round_idx: int
    seed: int
    now_s: float
    plan: SubmodelPlan
    weights: Mapping[str, Tensor]
    num_examples: np.ndarray
    price: Price
    contributions: Mapping[int, float] = field(default_factory=dict)
    desk: ServerDesk | None = None
    expected_s: Callable[[int, Work], float] = _unknown_s
    device: Callable[[int], str] = _no_class


@dataclass(frozen=True)
class Report:
    """What the server learns of one finished client, in plain numbers: the food of bandits and time models.

    Attributes:
        client: the client's number.
        round_idx: version it started from.
        ratio: pruning ratio it had.
        work: what it was asked to do.
        timing: simulated seconds, as the server and the client measured them.
        finish_s: simulated time of its return.
        num_examples: number of its examples.
        metrics: what its module logged, without what wasn't a finite number.
        weight: its share of the aggregate, normalised over the round.
        contribution: the contribution score of this round, None where none is computed.
        accepted: False when its update held NaN or infinity (in weights, buffers or statistics) and was left out.
        upload_bytes: bytes that it sent.
        num_steps: optimizer steps that it took.
        share: fraction of the local work that it did.
        level: fraction of the update's entries that it was told to send.
        dispatched_s: simulated time at which it was sent off.
        staleness: versions by which the model had moved on when it came back.
        energy_j: joules that it took, 0 where the fleet doesn't know.
        device: name of the client's device class.
    """

    client: int
    round_idx: int
    ratio: float
    work: Work
    timing: Timing
    finish_s: float
    num_examples: int
    metrics: Mapping[str, float]
    weight: float
    contribution: float | None
    accepted: bool
    upload_bytes: int
    num_steps: int = 0
    share: float = 1.0
    level: float = 1.0
    dispatched_s: float = 0.0
    staleness: int = 0
    energy_j: float = 0.0
    device: str = ""
