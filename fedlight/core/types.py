"""What travels between the parts of a round: work, timings, tasks, updates, jobs and the record of a round."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from fedlight.errors import ConfigError, DataError
from fedlight.submodels import SubmodelPlan
from fedlight.submodels.coverage import Coverage

if TYPE_CHECKING:
    from fedlight.core.desk import ServerDesk
    from fedlight.core.slots import Compression, Local, NormPolicy

State = dict[str, Tensor]
"""Tensors by name, as in ``nn.Module.state_dict``."""

Summarise = Callable[[nn.Module, "ClientData", int], Tensor]
"""Sums up a client's data in a few numbers, at the client: (its module, its data, the run's seed) to a tensor."""

Reduce = Callable[[Tensor], None]
"""Sums a tensor in place over the processes that share the cohort (does nothing in a run of one process)."""


@dataclass(frozen=True)
class Work:
    """What a client is asked to do in one round.

    Attributes:
        macs: multiply-accumulates of its training: 3 x forward MACs x examples (backward costs twice the forward).
        download_bytes: size of the submodel as it is sent.
        upload_bytes: size of the update as it comes back.
    """

    macs: float
    download_bytes: int
    upload_bytes: int


class Price(Protocol):
    """What is asked of a client if it gets a submodel at a ratio.

    Args:
        client: the client's number.
        ratio: pruning ratio.
        share: fraction of the local work.
        level: fraction of the update's entries that it sends.
    """

    def __call__(self, client: int, ratio: float, share: float = 1.0, level: float = 1.0) -> Work:
        """Return the work."""


@dataclass(frozen=True)
class Timing:
    """Simulated seconds of one client's round."""

    download_s: float
    compute_s: float
    upload_s: float

    @property
    def total_s(self) -> float:
        """Download, then compute, then upload."""
        return self.download_s + self.compute_s + self.upload_s


class ClientData(ABC):
    """One client's private examples, seen through batches."""

    @property
    @abstractmethod
    def num_examples(self) -> int:
        """Number of examples."""

    @property
    @abstractmethod
    def num_batches(self) -> int:
        """Number of batches of one epoch."""

    @abstractmethod
    def epoch(self, generator: torch.Generator) -> Iterator[Any]:
        """Yield the batches of one epoch, each example once, in an order drawn from ``generator``."""

    def label_counts(self) -> Tensor | None:
        """Return int64[num_classes], the number of examples of each class; None where there are no class labels."""
        return None

    def in_order(self) -> Iterator[Any]:
        """Yield batches of all examples, unaugmented and always in one order, for an evaluation."""
        return self.epoch(torch.Generator().manual_seed(0))

    def halves(self) -> tuple[ClientData, ClientData]:
        """Return two halves that don't overlap, always the same: one to train on, one to judge by.

        Raises:
            DataError: this kind of data can't be halved.
        """
        raise DataError(
            f"the server's data are {type(self).__name__}, which can't be halved into examples to train on and to "
            "judge by: fill ClientData.halves"
        )


class FederatedData(ABC):
    """What the server knows of the data: who has how many, and how to reach a client's own (for simulation)."""

    @property
    @abstractmethod
    def num_examples(self) -> np.ndarray:
        """int64[num_clients]: number of training examples of every client."""

    @abstractmethod
    def client(self, client: int) -> ClientData:
        """Return the training data of one client."""

    @abstractmethod
    def server(self) -> ClientData | None:
        """Return the server's own held-out training examples, or None when it holds none."""


@dataclass(frozen=True)
class ClientTask:
    """All that a client needs besides its own data and the (thin) network.

    Attributes:
        client: the client's number.
        round_idx: version of the global model that the weights come from.
        seed: what the client's draws derive from by :func:`fedlight.core.seeds.derive_seed`: the run's seed, and
            another one for each further job of the same client from the same version.
        weights: thin state dict to start from; read only, it may be the global one.
        masks: bool masks by parameter name for unstructured submodels (uncovered entries stay zero), else None.
        lr_factor: factor on the learning rate that the LR schedule gives for this round.
        statistics: names of per-entry statistics to sum up while training, see :data:`STATISTICS`.
        local: how to train.
        norm: what normalisation layers do with running statistics.
        compression: how the update is sent; None: it isn't, it stays where it was computed.
        share: fraction in (0, 1] of the local work that it is asked for.
        level: fraction in (0, 1] of the update's entries that it sends, where the compression chooses.
        memory: what its own compression kept from earlier rounds, in the shape of the submodel; empty at first.
        summarise: what the client tells of its data beside the update, with the run's seed filled in, see
            :meth:`fedlight.core.slots.Contribution.summary`; None: nothing.
    """

    client: int
    round_idx: int
    seed: int
    weights: Mapping[str, Tensor]
    masks: Mapping[str, Tensor] | None
    lr_factor: float
    statistics: frozenset[str]
    local: Local
    norm: NormPolicy
    compression: Compression | None
    share: float = 1.0
    level: float = 1.0
    memory: Mapping[str, Tensor] = field(default_factory=dict)
    summarise: Callable[[nn.Module, ClientData], Tensor] | None = None


STATISTICS = frozenset({"abs_grad", "sq_grad", "taylor", "sum_grad", "abs_change"})
"""Per-entry statistics: sum over steps of |g|, g², (g·θ)² and g, and |θ_end - θ_start|."""


@dataclass
class Update:
    """What comes back from a client, in the shape of its submodel.

    Attributes:
        client: the client's number.
        num_examples: number of examples that it holds.
        num_steps: optimizer steps taken.
        delta: local minus global, for every trainable parameter.
        buffers: local minus global, for every float buffer that the norm policy lets travel.
        statistics: name of the statistic to parameter name to per-entry sums.
        metrics: what the client's module logged, averaged over its examples (``train/loss``, ...).
        upload_bytes: size as sent.
        labels: bool[num_classes], the classes that the client's loss was masked to; None where it was not masked.
        memory: what the client keeps for its next round (never sent; the simulation stores it for the client).
        summary: what the task's ``summarise`` says of the client's data; None where it wasn't asked.
        start: the weights that it started from, where the aggregation asks for them (never sent: the server has them).
        discount: factor of the schedule for its age, part of the weight that it is merged by (set by the server).
    """

    client: int
    num_examples: int
    num_steps: int
    delta: State
    buffers: State
    statistics: dict[str, State]
    metrics: dict[str, float]
    upload_bytes: int
    labels: Tensor | None = None
    memory: State = field(default_factory=dict)
    summary: Tensor | None = None
    start: State | None = None
    discount: float = 1.0

    def is_finite(self) -> bool:
        """Return whether every entry that is merged or remembered is a finite number.

        Metrics don't count: what a module logs may be undefined (the AUROC of a single class, say) while it trains
        well. :meth:`finite_metrics` leaves those out.
        """
        statistics = (value for state in self.statistics.values() for value in state.values())
        return all(
            bool(torch.isfinite(value.sum())) or bool(torch.isfinite(value).all())
            for value in (*self.delta.values(), *self.buffers.values(), *self.memory.values(), *statistics)
        )

    def finite_metrics(self) -> dict[str, float]:
        """Return the metrics that are finite numbers: one NaN would poison every mean and every bandit's reward."""
        return {name: value for name, value in self.metrics.items() if math.isfinite(value)}


@dataclass
class Job:
    """One client at work: what was sent, from which version, and when it is back.

    Attributes:
        client: the client's number.
        round_idx: version of the global model that it started from.
        ratio: pruning ratio (fraction removed) it was given.
        coverage: the index map or masks of the dispatch; they stay with the job whatever the server prunes meanwhile.
        work: what it was asked to do.
        timing: simulated seconds it takes.
        dispatched_s: simulated time of the dispatch.
        update: what it returns; None until it has been computed.
        share: fraction in (0, 1] of the local work that it does.
        level: fraction in (0, 1] of the update's entries that it was told to send.
        repeat: how many jobs the client had begun from this version before.
        lost_s: simulated time at which the client or its connection is gone; None if the result comes back.
        cause: why it is lost, one word; empty if it isn't.
        energy_j: joules that it takes, 0 where the fleet doesn't know.
        device: name of the client's device class.
    """

    client: int
    round_idx: int
    ratio: float
    coverage: Coverage
    work: Work
    timing: Timing
    dispatched_s: float
    update: Update | None = None
    share: float = 1.0
    level: float = 1.0
    repeat: int = 0
    lost_s: float | None = None
    cause: str = ""
    energy_j: float = 0.0
    device: str = ""

    @property
    def key(self) -> tuple[int, int, int]:
        """What tells the job from all others."""
        return self.client, self.round_idx, self.repeat

    @property
    def finish_s(self) -> float:
        """Simulated time at which the result is back at the server."""
        return self.dispatched_s + self.timing.total_s

    @property
    def event_s(self) -> float:
        """Simulated time at which the server hears of it: of its result, or of its loss."""
        return self.finish_s if self.lost_s is None else self.lost_s

    @property
    def spent(self) -> Work:
        """What was done of the work, a lost job's up to its loss, one phase after the other."""
        left_s, done = self.event_s - self.dispatched_s, []
        for phase_s in (self.timing.download_s, self.timing.compute_s, self.timing.upload_s):
            done.append(1.0 if phase_s <= left_s else max(0.0, left_s) / max(phase_s, 1e-300))
            left_s -= phase_s if done[-1] == 1.0 else math.inf
        work = self.work
        return Work(done[1] * work.macs, int(done[0] * work.download_bytes), int(done[2] * work.upload_bytes))

    @property
    def spent_j(self) -> float:
        """Joules that were spent, a lost job's in proportion to its time."""
        total_s = self.timing.total_s
        return self.energy_j * (min(1.0, (self.event_s - self.dispatched_s) / total_s) if total_s > 0 else 1.0)


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
