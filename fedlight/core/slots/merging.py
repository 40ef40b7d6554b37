"""The slots at the server after training: what an update counts, how updates merge, and what comes after."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, final

from torch import Tensor

from fedlight.core.slots.part import Part
from fedlight.core.types import Job, Reduce, Report, RoundState, State, Summarise, Update
from fedlight.submodels.coverage import Coverage

if TYPE_CHECKING:
    from fedlight.core.coalitions import Coalitions


class Contribution(Part):
    """How much does a client's update count?"""

    needs: Literal["nothing", "own", "all"] = "nothing"
    """Which of the round's updates (in submodel shape) are kept until it ends: ``own``: each process keeps those that
    it trained, and asks :meth:`score` of each; ``all``: every process gets all, and asks :meth:`score_cohort`."""

    statistics: frozenset[str] = frozenset()
    """Statistics that clients must sum up for it, out of :data:`fedlight.core.types.STATISTICS`."""

    @property
    def gives_scores(self) -> bool:
        """Whether it is asked for scores of clients: then it needs updates to judge them by."""
        return self.needs != "nothing"

    @abstractmethod
    def weights(self, state: RoundState, clients: Sequence[int]) -> dict[int, float]:
        """Return a weight >= 0 for every client; they are normalised over the round by the aggregation.

        Weight 0 leaves a client's update out of everything, as if it had not come back.
        """

    def summary(self, client: int) -> Summarise | None:
        """Return what the client must tell of its data with its next update (``Update.summary``); None: nothing."""
        return None

    def begin(self, state: RoundState) -> None:
        """Start a round of :meth:`add`."""

    def add(self, coverage: Coverage, update: Update, weight: float) -> None:
        """Take in one finished update while it streams past."""

    def finish(self, reduce: Reduce) -> None:
        """Close the pass; sum what was taken in over the processes by ``reduce``."""

    def score(self, coverage: Coverage, update: Update) -> float | None:
        """Return this round's contribution of one update, after :meth:`finish`; None if it gives none."""
        return None

    def score_cohort(self, state: RoundState, coalitions: Coalitions) -> dict[int, float]:
        """Return this round's contributions by client, after :meth:`finish`; the first process's are taken by all."""
        return {}

    def observe(self, state: RoundState, scores: Mapping[int, float]) -> None:
        """Remember the round's scores, by client."""


class Aggregation(Part):
    """How do updates merge? Streams: holds one accumulator in full shape, whatever the size of the cohort."""

    needs_start: bool = False
    """Whether updates must come with the weights that they started from (``Update.start``)."""

    @abstractmethod
    def begin(self, state: RoundState, jobs: Sequence[Job]) -> None:
        """Start a round; ``jobs`` are all that all processes will add, so each lays out the same tensors."""

    @abstractmethod
    def add(self, coverage: Coverage, update: Update, weight: float) -> None:
        """Take in one update with its weight (> 0, not normalised)."""

    @abstractmethod
    def finish(self, reduce: Reduce) -> State:
        """Return the aggregate update U in full shape (parameters and travelling buffers); zero where uncovered."""


class ServerUpdate(Part):
    """What does the server do with the new weights before they are sent out?"""

    @abstractmethod
    def apply(
        self, state: RoundState, reports: Sequence[Report], aggregate: Mapping[str, Tensor], weights: State
    ) -> State:
        """Return the weights that the round ends with.

        Called once a round after the server optimizer's step, on every process with the same arguments; what the first
        process returns is what all go on with.

        Args:
            state: the round. Its weights are the module's own tensors, which the step has moved: read ``weights``.
            reports: the finished clients.
            aggregate: what the server optimizer has just applied.
            weights: full state dict after that step; not to be changed in place.
        """


@final
class NoServerUpdate(ServerUpdate):
    """The weights after the server optimizer's step are those that the round ends with."""

    def apply(
        self, state: RoundState, reports: Sequence[Report], aggregate: Mapping[str, Tensor], weights: State
    ) -> State:
        """Return ``weights``."""
        return weights
