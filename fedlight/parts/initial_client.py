"""One client first, then as many as usual."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from fedlight.core.seeds import SERVER, numpy_generator
from fedlight.core.slots import Part, Selection
from fedlight.core.types import Report, RoundState
from fedlight.parts.extraction.size_search import SizeSearch
from fedlight.parts.selection import UniformSelection


@final
class InitialClient(Selection):
    """In stage 1 of a :class:`SizeSearch` a single client trains, the same in every round; then another part selects.

    The search is the algorithm's extraction. The client is drawn from the seed in the first round; another one takes
    over where it is down.

    Args:
        then: who selects after stage 1; None: :class:`~fedlight.parts.UniformSelection`.
    """

    def __init__(self, then: Selection | None = None) -> None:
        self.then = then or UniformSelection()
        self._client: int | None = None

    def meet(self, parts: Mapping[str, Part]) -> None:
        """Find the search; raises ConfigError if the extraction is none."""
        self._search = SizeSearch.among(parts, self)
        self.then.meet(parts)

    def select(self, state: RoundState, candidates: Sequence[int], count: int) -> list[int]:
        """Return one client in stage 1, ``count`` after it."""
        if not self._search.is_initial(state.round_idx):
            return self.then.select(state, candidates, count)
        if not len(candidates):
            return []
        client = self._client
        if client is None or client not in candidates:
            generator = numpy_generator(state.seed, state.round_idx, SERVER, "initial client")
            client = int(candidates[int(generator.integers(len(candidates)))])
        self._client = client
        return [client]

    def observe(self, state: RoundState, reports: Sequence[Report]) -> None:
        """Let the part that selects after stage 1 learn from all rounds."""
        self.then.observe(state, reports)

    def metrics(self) -> dict[str, float]:
        """Return what it reports."""
        return self.then.metrics()

    def state_dict(self) -> dict[str, Any]:
        """Return the client of stage 1."""
        return {"client": self._client, "then": self.then.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self._client = state["client"]
        self.then.load_state_dict(state["then"])
