"""Two criteria: one for what goes, one for what comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from torch import Tensor

from fedlight.core.slots import Importance
from fedlight.core.types import Job, Reduce, RoundState, State, Update
from fedlight.parts.importance.entry_statistic import EntryStatistic
from fedlight.parts.importance.magnitude import Magnitude
from fedlight.submodels.coverage import Coverage


@final
class Regrowth(Importance):
    """Prune by one importance, grow by another: RigL's rule (Evci et al. 2020) with the default two.

    A new map keeps the best of the old one by ``keep``; the places that are left go to the best of all others, those
    just dropped among them, by ``grow``. A first map, and one that is drawn anew, goes by ``keep`` alone.

    Args:
        keep: what stays; None: :class:`Magnitude`.
        grow: what comes; None: :class:`EntryStatistic` of |g|, which weight masks need. With ``Channels`` use a
            criterion that knows removed units, since they have no gradient.
    """

    def __init__(self, keep: Importance | None = None, grow: Importance | None = None) -> None:
        self.keep = keep or Magnitude()
        self.grow = grow or EntryStatistic("abs_grad")
        self.statistics = self.keep.statistics | self.grow.statistics
        self.personal = self.keep.personal or self.grow.personal
        self.needs_server_data = self.keep.needs_server_data or self.grow.needs_server_data

    @property
    def growth(self) -> Importance:
        """What decides which entries come in."""
        return self.grow

    def scores(self, state: RoundState, client: int) -> Tensor:
        """Return what ``keep`` says of the units."""
        return self.keep.scores(state, client)

    def check_entries(self) -> None:
        """Raise ConfigError if one of both has none."""
        for part in (self.keep, self.grow):
            part.check_entries()

    def entries(self, state: RoundState, client: int) -> State:
        """Return what ``keep`` says of single weights."""
        return self.keep.entries(state, client)

    def begin(self, state: RoundState, jobs: Sequence[Job]) -> None:
        """Start a round of both."""
        for part in (self.keep, self.grow):
            part.begin(state, jobs)

    def add(self, coverage: Coverage, update: Update) -> None:
        """Take in one client's statistics."""
        for part in (self.keep, self.grow):
            part.add(coverage, update)

    def finish(self, reduce: Reduce) -> None:
        """Close the round."""
        for part in (self.keep, self.grow):
            part.finish(reduce)

    def state_dict(self) -> dict[str, Any]:
        """Return the memory of both."""
        return {"keep": self.keep.state_dict(), "grow": self.grow.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self.keep.load_state_dict(state["keep"])
        self.grow.load_state_dict(state["grow"])
