"""The slots of an algorithm: one interface for each question that a round asks.

An implementation is final and fills the abstract methods; the hooks that do nothing here may be filled too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, final

import lightning.pytorch as pl
from torch import Tensor, nn

from fedlight.core.types import (
    ClientData,
    ClientTask,
    Job,
    Reduce,
    Report,
    RoundState,
    State,
    Summarise,
    Update,
)
from fedlight.errors import ConfigError
from fedlight.submodels import SubmodelPlan
from fedlight.submodels.coverage import Coverage
from fedlight.submodels.structure import Cost

if TYPE_CHECKING:
    from fedlight.core.coalitions import Coalitions


class Part(ABC):  # noqa: B024 - the slots below add the abstract methods
    """A choice for one slot; what it remembers between rounds is explicit and travels in the checkpoint."""

    needs_server_data: bool = False
    """Whether it asks :attr:`~fedlight.core.types.RoundState.desk`; refused at start where the server holds no data."""

    def asks_server_data(self) -> Part:
        """Return whom :attr:`needs_server_data` is about: the innermost part of a part that needs them, or this one."""
        inner = (part for part in vars(self).values() if isinstance(part, Part) and part.needs_server_data)
        asker = next(inner, None)
        return self if asker is None else asker.asks_server_data()

    def meet(self, parts: Mapping[str, Part]) -> None:  # noqa: B027 - most parts don't care who the others are
        """Get to know the algorithm's parts, by slot, once before the first round.

        Raises:
            ConfigError: a part that this one works with is of another kind.
        """

    def forget(self, clients: Sequence[int]) -> None:  # noqa: B027 - most parts keep nothing of single clients
        """Drop what is kept of clients that have expired (``model.state_ttl_s``): should they return, they are new."""

    def state_dict(self) -> dict[str, Any]:
        """Return what must survive a restart: tensors and plain values only."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - parts without memory have nothing to load
        """Take back what :meth:`state_dict` returned."""

    def metrics(self) -> dict[str, float]:
        """Return scalars to log after a round, by TensorBoard tag."""
        return {}


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

        An extraction that needs them calls it when the parts meet, before the first round.
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
