"""The slots at the client: how it trains, what its running statistics do, and what it sends back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
from torch import Tensor, nn

from fedlight.core.slots.part import Part
from fedlight.core.types import ClientData, ClientTask, Job, Report, RoundState, State, Update
from fedlight.submodels.structure import Cost


class Local(Part):
    """How does the client train?"""

    @abstractmethod
    def check(self, module: pl.LightningModule) -> None:
        """Raise :class:`~fedlight.errors.UnsupportedClientError` if this loop can't honour the module."""

    def shares(self, state: RoundState, cohort: Sequence[int], ratios: Mapping[int, float]) -> dict[int, float]:
        """Return the fraction in [0, 1] of the local work that every client is asked for; at 0 it isn't sent off."""
        return dict.fromkeys(cohort, 1.0)

    @abstractmethod
    def num_examples(self, data: ClientData, share: float = 1.0) -> int:
        """Return how many examples one round on ``data`` takes (epochs x examples, or steps x batch) at this share."""

    @abstractmethod
    def lr_factor(self, round_idx: int) -> float:
        """Return the factor that the learning-rate schedule gives for this round."""

    @abstractmethod
    def fit(self, module: pl.LightningModule, data: ClientData, task: ClientTask) -> LocalResult:
        """Train ``module`` in place."""

    def observe(self, state: RoundState, reports: Sequence[Report]) -> None:
        """Learn from the clients that have just finished (called once per round, after the server step)."""


class LocalResult:
    """What a local loop tells besides the trained weights."""

    __slots__ = ("labels", "metrics", "num_steps", "statistics")

    def __init__(
        self, num_steps: int, metrics: dict[str, float], statistics: dict[str, State], labels: Tensor | None = None
    ) -> None:
        self.num_steps = num_steps
        self.metrics = metrics
        self.statistics = statistics
        self.labels = labels


class NormPolicy(Part):
    """What happens to the running statistics of normalisation layers?"""

    travels: bool
    """Whether clients send their float buffers back to be averaged by coverage."""

    def check(self, module: nn.Module, server_data: ClientData | None) -> None:
        """Raise :class:`~fedlight.errors.ConfigError` if it can't serve this module with these data of the server's."""

    @abstractmethod
    def prepare(self, module: nn.Module) -> None:
        """Set up a client's module for training, in place."""

    def rank(self, job: Job) -> float:
        """Return a finite number: of a round's accepted updates those of the lowest have their float buffers merged."""
        return 0.0

    @abstractmethod
    def before_evaluation(
        self, module: nn.Module, server_data: ClientData | None, forward: Callable[[Any], None]
    ) -> None:
        """Set up the global module for evaluation, in place; ``forward`` runs the module on one batch."""


class Compression(Part):
    """What is sent back?"""

    def levels(
        self, state: RoundState, cohort: Sequence[int], ratios: Mapping[int, float], shares: Mapping[int, float]
    ) -> dict[int, float]:
        """Return the fraction in (0, 1] of its update's entries that every client sends."""
        return dict.fromkeys(cohort, 1.0)

    @abstractmethod
    def upload_bytes(self, cost: Cost, level: float = 1.0) -> int:
        """Return the bytes that an update of a submodel of this cost takes at this level."""

    def download_bytes(self, cost: Cost) -> int:
        """Return the bytes that a submodel of this cost takes on its way to the client."""
        return cost.num_bytes

    @abstractmethod
    def encode(self, update: Update, task: ClientTask) -> Update:
        """Return the update as the server will read it, with ``upload_bytes`` and what the client keeps set."""

    def observe(self, state: RoundState, reports: Sequence[Report]) -> None:
        """Learn from the clients that have just finished (called once per round, after the server step)."""
