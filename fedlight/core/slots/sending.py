"""The slots before training: who trains, how much is removed, what matters, and what the client gets."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import final

from torch import Tensor

from fedlight.core.slots.part import Part
from fedlight.core.types import Job, Reduce, Report, RoundState, State, Update
from fedlight.errors import ConfigError
from fedlight.submodels import SubmodelPlan
from fedlight.submodels.coverage import Coverage
from fedlight.submodels.structure import Cost


class Selection(Part):
    """Who trains now?"""

    @abstractmethod
    def select(self, state: RoundState, candidates: Sequence[int], count: int) -> list[int]:
        """Return ``count`` different clients out of ``candidates`` (fewer only if there are fewer candidates)."""

    def observe(self, state: RoundState, reports: Sequence[Report]) -> None:
        """Learn from the clients that have just finished (called once per round, after the server step)."""


class Ratio(Part):
    """How much is removed?"""

    @abstractmethod
    def choose(self, state: RoundState, cohort: Sequence[int]) -> dict[int, float]:
        """Return the pruning ratio in [0, 1) for every client of the cohort."""

    def observe(self, state: RoundState, reports: Sequence[Report]) -> None:
        """Learn from the clients that have just finished (called once per round, after the server step)."""


class Importance(Part):
    """What matters?"""

    statistics: frozenset[str] = frozenset()
    """Statistics that clients must sum up for it, out of :data:`fedlight.core.types.STATISTICS`."""

    personal: bool = False
    """Whether scores differ from client to client."""

    @property
    def growth(self) -> Importance | None:
        """Whose scores decide what comes into a map; None: its own, which always decide what goes."""
        return None

    @abstractmethod
    def scores(self, state: RoundState, client: int) -> Tensor:
        """Return a float score per unit, shape [num_units]; higher = keep."""

    def check_entries(self) -> None:
        """Raise ConfigError if it has no :meth:`entries`; one that wraps others asks them.

        Asked when the parts meet, before the first round, where :attr:`Extraction.needs_entries`.
        """
        if type(self).entries is Importance.entries:
            raise ConfigError(
                f"importance {type(self).__name__} scores units, not single weights: use Magnitude, AbsoluteChange or "
                "EntryStatistic with weight masks, or Channels as extraction"
            )

    def entries(self, state: RoundState, client: int) -> State:
        """Return a float score per weight, for every tensor of two dims or more; higher = keep.

        Here there are none: this criterion is about units only, which :meth:`check_entries` tells.
        """
        self.check_entries()
        raise NotImplementedError

    def begin(self, state: RoundState, jobs: Sequence[Job]) -> None:
        """Start a round of :meth:`add`; ``jobs`` are all that all processes will add."""

    def add(self, coverage: Coverage, update: Update) -> None:
        """Take in one finished client's statistics, in submodel shape."""

    def finish(self, reduce: Reduce) -> None:
        """Close the round; sum what was taken in over the processes by ``reduce``."""


@final
class Scores:
    """What an importance says for one client; worked out when it is asked for.

    Attributes:
        personal: whether another client's may differ.
        growth: the scores by which what comes into a map is chosen; None: these.
    """

    def __init__(
        self,
        units: Callable[[], Tensor],
        entries: Callable[[], State] | None = None,
        growth: Scores | None = None,
        personal: bool = False,
    ) -> None:
        self._units = units
        self._entries = entries
        self.growth = growth
        self.personal = personal

    @classmethod
    def of(cls, importance: Importance, state: RoundState, client: int) -> Scores:
        """Return what ``importance`` says for ``client``."""
        growth = importance.growth
        return cls(
            lambda: importance.scores(state, client),
            lambda: importance.entries(state, client),
            None if growth is None else cls.of(growth, state, client),
            importance.personal,
        )

    def units(self) -> Tensor:
        """Return float[num_units]; higher = keep."""
        return self._units()

    def entries(self) -> State:
        """Return float scores per weight by tensor name; higher = keep; ConfigError if the importance has none."""
        if self._entries is None:
            raise ConfigError("these scores are of units: weight masks need scores per weight")
        return self._entries()


class Extraction(Part):
    """What does the client get?"""

    shared: bool = False
    """Whether all clients get one map, which no client's ratio changes: then none is cut to fit one client's memory."""

    needs_entries: bool = False
    """Whether it asks for scores of single weights; an importance without them is refused at start."""

    def meet(self, parts: Mapping[str, Part]) -> None:
        """Raise ConfigError if it needs scores of single weights, and the importance has none."""
        importance = parts["importance"]
        if self.needs_entries and isinstance(importance, Importance):
            importance.check_entries()

    @abstractmethod
    def cost(self, plan: SubmodelPlan, ratio: float) -> Cost:
        """Return what a submodel at this ratio costs, without choosing which units it keeps."""

    @abstractmethod
    def cost_of(self, plan: SubmodelPlan, coverage: Coverage) -> Cost:
        """Return what the submodel that :meth:`extract` gave costs."""

    @abstractmethod
    def extract(self, state: RoundState, client: int, ratio: float, scores: Scores) -> Coverage:
        """Return what the client gets; ``scores`` are asked for only when a new map is drawn."""

    @abstractmethod
    def last(self, plan: SubmodelPlan, client: int) -> Coverage | None:
        """Return the client's last map, None if it never had one."""
