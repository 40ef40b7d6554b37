"""What travels between the parts of a round: work, timings, tasks, updates, jobs and the record of a round."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from fedlight.core import tags
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
        seed: the run's seed; the client derives its draws from it by :func:`fedlight.core.seeds.derive_seed`.
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
        summarise: what the client tells of its data beside the update, see
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
    summarise: Summarise | None = None


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
        share: fraction in (0, 1] of the local work that it was asked for.
        level: fraction in (0, 1] of the update's entries that it was told to send.
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

    @property
    def key(self) -> tuple[int, float]:
        """What tells the job from all others: a client has one job at a time."""
        return self.client, self.dispatched_s

    @property
    def finish_s(self) -> float:
        """Simulated time at which the result is back at the server."""
        return self.dispatched_s + self.timing.total_s


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
        share: fraction of the local work that it was asked for.
        level: fraction of the update's entries that it was told to send.
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


@dataclass(frozen=True)
class RoundRecord:
    """All that one round did, for loggers and pictures.

    Attributes:
        round_idx: round, counted from 0.
        reports: finished clients in the order of their return.
        layer_sparsity: group name to the mean fraction removed over the finished clients.
        start_s: simulated time at the start of the round.
        end_s: simulated time at its end.
        wall_s: measured seconds of the round.
        metrics: further scalars by tag, among them what the parts report.
    """

    round_idx: int
    reports: Sequence[Report]
    layer_sparsity: Mapping[str, float]
    start_s: float
    end_s: float
    wall_s: float
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def waiting_share(self) -> float:
        """Mean over finished clients of the share of the round in which they neither computed nor sent."""
        span = self.end_s - self.start_s
        if not self.reports or span <= 0:
            return 0.0
        return float(np.mean([max(0.0, 1 - report.timing.total_s / span) for report in self.reports]))

    def scalars(self) -> dict[str, float]:
        """Return the round's scalars by TensorBoard tag (:data:`fedlight.core.tags.TAGS`)."""
        accepted = [report for report in self.reports if report.accepted]
        scalars = {
            tags.NUM_CLIENTS: float(sum(report.weight > 0 for report in accepted)),
            tags.REJECTED_CLIENTS: float(len(self.reports) - len(accepted)),
            tags.UPLINK_BYTES: float(sum(report.upload_bytes for report in self.reports)),
            tags.DOWNLINK_BYTES: float(sum(report.work.download_bytes for report in self.reports)),
            tags.MACS: float(sum(report.work.macs for report in self.reports)),
            tags.SIMULATED_S: self.end_s,
            tags.WALL_S: self.wall_s,
            tags.WAITING_SHARE: self.waiting_share,
        }
        if self.reports:
            scalars[tags.MEAN_RATIO] = float(np.mean([report.ratio for report in self.reports]))
        names = {name for report in accepted for name in report.metrics}
        for name in sorted(names):
            told = [report for report in accepted if name in report.metrics]
            sizes = [report.num_examples for report in told]
            scalars[name] = float(np.average([report.metrics[name] for report in told], weights=sizes))
        return {**scalars, **self.metrics}
