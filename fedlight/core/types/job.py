"""What travels: a task to a client, its update back, and the job that the server keeps of both."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fedlight.core.types.data import ClientData
from fedlight.core.types.work import Timing, Work
from fedlight.submodels.coverage import Coverage

if TYPE_CHECKING:
    from fedlight.core.slots import Compression, Local, NormPolicy

State = dict[str, Tensor]
"""Tensors by name, as in ``nn.Module.state_dict``."""


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
