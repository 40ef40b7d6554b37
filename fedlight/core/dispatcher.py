"""Sending clients off: who, how much each, which parts, and what becomes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fedlight.core.algorithm import Algorithm
from fedlight.core.clock import Clock
from fedlight.core.fleet import Departure, Fleet
from fedlight.core.idle import Idle
from fedlight.core.slots import Scores
from fedlight.core.types import FederatedData, Job, RoundState, Work
from fedlight.errors import ConfigError
from fedlight.submodels import SubmodelPlan
from fedlight.submodels.coverage import Coverage
from fedlight.submodels.structure import Cost

_FINER = 0.05
"""Step by which a ratio is raised until the submodel fits a client's memory."""
_LAST = 0.95
_SMALLEST = 0.999  # ratio at which every part keeps the least that it can
_LEAST = 1e-6  # share or level: of the local work one step, of an update one entry


class _Cut(NamedTuple):
    """What a client is to get."""

    ratio: float
    coverage: Coverage
    cost: Cost


class Dispatcher:
    """Puts jobs in flight.

    Args:
        algorithm: the parts.
        plan: the plan of the client's architecture.
        data: the clients' data, for how many examples they hold.
        fleet: the devices.
        clock: takes the jobs.

    Attributes:
        is_stranded: whether nobody was up, nobody was at work and nobody will ever come.
    """

    def __init__(
        self, algorithm: Algorithm, plan: SubmodelPlan, data: FederatedData, fleet: Fleet, clock: Clock
    ) -> None:
        self._parts = algorithm
        self._plan = plan
        self._data = data
        self._fleet = fleet
        self._clock = clock
        clock.next_up_s = fleet.next_up_s
        self._repeats: Counter[int] = Counter()
        self._unfit: dict[int, None] = {}
        self.is_stranded = False

    def check_memory(self) -> None:
        """Raise ConfigError if no client's memory holds even the smallest submodel: then nobody could ever train."""
        cost = self._parts.extraction.cost(self._plan, _SMALLEST)
        if not any(self._fleet.fits(client, cost) for client in range(len(self._data.num_examples))):
            name = type(self._parts).__name__
            what = f"what {name} begins with" if self._parts.extraction.shared else f"the smallest submodel of {name}"
            raise ConfigError(
                f"model.fleet: no client's memory_bytes holds the training of {what} ({cost.parameters:,} parameters), "
                "so nobody could train: raise memory_bytes, or choose a smaller client model"
            )

    def begin(self) -> None:
        """Start a round: the global model has a new version."""
        self._repeats.clear()
        self._unfit = {}

    @property
    def unfit(self) -> Sequence[int]:
        """Clients left out in this round because what they were to get doesn't fit their memory."""
        return tuple(self._unfit)

    def send(self, state: RoundState, count: int) -> int:
        """Select up to ``count`` clients and send them off at the clock's time; return how many went.

        Where nobody is up and nobody at work, time first runs until somebody comes.
        """
        candidates = self._candidates()
        while not len(candidates) and not len(self._clock) and count > 0:
            next_s = self._fleet.next_up_s(self._clock.now_s)
            if next_s is None:
                self.is_stranded = True
                return 0
            self._clock.wait_until(next_s)
            candidates = self._candidates()
        if count <= 0 or not len(candidates):
            return 0
        return self._send(state, candidates, count)

    def quickest_s(self) -> Iterator[float]:
        """Yield the seconds that every client is expected to need for the least of all jobs; ends if nobody knows."""
        for client in range(len(self._data.num_examples)):
            try:
                yield self._fleet.expected_timing(client, self.price(client, _LAST, _LEAST, _LEAST), 0.0).total_s
            except ConfigError:
                return

    def price(self, client: int, ratio: float, share: float = 1.0, level: float = 1.0) -> Work:
        """Return the work that a submodel at this ratio means for a client; a :class:`~fedlight.core.types.Price`."""
        return self._work(client, self._parts.extraction.cost(self._plan, ratio), share, level)

    def _candidates(self) -> Sequence[int]:
        """Return the clients that are up and not at work."""
        up, busy = self._fleet.candidates(self._clock.now_s), self._clock.busy
        return Idle(up, busy) if busy else up

    def _send(self, state: RoundState, candidates: Sequence[int], count: int) -> int:
        parts, sent = self._parts, 0
        cohort = parts.selection.select(state, candidates, count)
        ratios = parts.ratio.choose(state, cohort)
        cuts: dict[int, _Cut] = {}
        for client in cohort:
            cut = self._cut(state, client, ratios[client])
            if cut is None:
                parts.extraction.forget([client])  # it never gets what was drawn for it
                self._unfit[client] = None
            else:
                cuts[client], ratios[client] = cut, cut.ratio
        cohort = list(cuts)
        shares = parts.local.shares(state, cohort, ratios)
        levels = parts.compression.levels(state, cohort, ratios, shares)
        for client in cohort:
            if shares[client] > 0.0:
                self._clock.push(self._job(state, client, cuts[client], shares[client], levels[client]))
                sent += 1
        return sent

    def _job(self, state: RoundState, client: int, cut: _Cut, share: float, level: float) -> Job:
        now_s = self._clock.now_s
        departure = Departure(client, state.round_idx, now_s, self._repeats[client])
        self._repeats[client] += 1
        share *= self._fleet.share(departure)
        work = self._work(client, cut.cost, share, level)
        fate = self._fleet.fate(departure, work)
        job = Job(
            client=client,
            round_idx=state.round_idx,
            ratio=cut.ratio,
            coverage=cut.coverage,
            work=work,
            timing=fate.timing,
            dispatched_s=now_s,
            share=share,
            level=level,
            repeat=departure.repeat,
            energy_j=self._fleet.energy_j(client, work),
            device=self._fleet.device(client),
        )
        if fate.lost_s is not None and fate.lost_s < job.finish_s:
            job.lost_s, job.cause = fate.lost_s, fate.cause
        return job

    def _cut(self, state: RoundState, client: int, ratio: float) -> _Cut | None:
        """Return the submodel at the smallest ratio, from this one up, that fits the client; None if none does.

        A price may be an estimate, so it only says where to begin: what counts is the cost of the map itself.
        """
        extraction, fits = self._parts.extraction, self._fleet.fits
        last = ratio if extraction.shared else max(ratio, _LAST)
        while not (fitted := fits(client, price := extraction.cost(self._plan, ratio))) and ratio < last:
            ratio = min(ratio + _FINER, last)
        while True:
            coverage = extraction.extract(state, client, ratio, Scores.of(self._parts.importance, state, client))
            cost = extraction.cost_of(self._plan, coverage)
            if fitted if cost == price else fits(client, cost):
                return _Cut(ratio, coverage, cost)
            if ratio >= last:
                return None
            ratio = min(ratio + _FINER, last)

    def _work(self, client: int, cost: Cost, share: float, level: float) -> Work:
        examples = self._parts.local.num_examples(self._data.client(client), share)
        compression = self._parts.compression
        return Work(3.0 * cost.macs * examples, compression.download_bytes(cost), compression.upload_bytes(cost, level))
