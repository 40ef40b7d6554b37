"""Training the clients of a round and merging what comes back while it streams past."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from fedlight.core.algorithm import Algorithm
from fedlight.core.buffers import BufferSum
from fedlight.core.client import run_client
from fedlight.core.coalitions import Coalitions, Member
from fedlight.core.memory import ClientMemory
from fedlight.core.modules import ThinModules
from fedlight.core.processes import Processes
from fedlight.core.seeds import derive_seed
from fedlight.core.types import (
    ClientData,
    ClientTask,
    FederatedData,
    Job,
    Report,
    RoundState,
    State,
    Summarise,
    Update,
)
from fedlight.errors import UnsupportedClientError
from fedlight.submodels import SubmodelPlan

JobKey = tuple[int, int, int]
"""What tells jobs apart: :attr:`fedlight.core.types.Job.key`."""


@dataclass
class _Returned:
    """What every process must know of an update that one process holds."""

    accepted: bool
    metrics: dict[str, float]
    upload_bytes: int
    num_steps: int
    trained: bool
    score: float | None = None


class Cohort:
    """Trains jobs, each process its share, and merges their updates.

    Memory doesn't grow with the number of clients in a round: an update is merged and dropped before the next client
    trains. The exception is a contribution that asks for the updates again once their aggregate is known; they are
    then kept in the shape of their submodels, those of all processes by each where it compares them with one another.

    Args:
        algorithm: the parts.
        plan: the plan of ``client``.
        client: the global module, copied as the template of the thin ones.
        data: the clients' data.
        processes: who shares the work.
        memory: what clients keep from round to round.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        plan: SubmodelPlan,
        client: pl.LightningModule,
        data: FederatedData,
        processes: Processes,
        memory: ClientMemory,
    ) -> None:
        self._parts = algorithm
        self._data = data
        self._processes = processes
        self._memory = memory
        self._thin_modules = ThinModules(plan, client)
        self._client_name = type(client).__name__
        self._buffers = BufferSum(algorithm.aggregation, {name for name, _ in client.named_parameters()})
        self._has_trained: bool | None = None

    def aggregate(
        self, state: RoundState, finished: Sequence[Job], torch_device: torch.device
    ) -> tuple[State, list[Report]]:
        """Train what is not trained yet, and return the aggregate update in full shape and a report per job.

        A client whose update holds NaN or infinity is left out of everything and reported as not accepted; of its
        metrics only those that aren't finite are left out.
        """
        parts, reduce = self._parts, self._processes.reduce
        weights = self._weights(state, finished)
        parts.importance.begin(state, finished)
        parts.contribution.begin(state)
        spare = copy.deepcopy(parts.aggregation) if parts.contribution.needs == "all" else None
        parts.aggregation.begin(state, finished)
        self._buffers.begin(state, finished)
        returned: dict[JobKey, _Returned] = {}
        kept: list[tuple[Job, Update]] = []
        for job in self._processes.share(finished):
            update = replace(self._train(state, job, torch_device), discount=self._discount(state, job))
            returned[job.key] = _Returned(
                update.is_finite(), update.finite_metrics(), update.upload_bytes, update.num_steps, _is_trained(update)
            )
            if not returned[job.key].accepted or weights[job.key] == 0:
                continue  # as if it had not come back: what it would have kept, it keeps sending
            self._memory.put(job, update)
            parts.importance.add(job.coverage, update)
            parts.contribution.add(job.coverage, update, weights[job.key])
            parts.aggregation.add(job.coverage, replace(update, buffers={}), weights[job.key])
            self._buffers.add(job, update, weights[job.key], parts.norm.rank(job))
            if parts.contribution.gives_scores:
                kept.append((job, replace(update, memory={})))  # it is stored, and nobody else's business
        parts.importance.finish(reduce)
        parts.contribution.finish(reduce)
        aggregate = parts.aggregation.finish(reduce)
        if spare is None:
            for job, update in kept:
                returned[job.key].score = parts.contribution.score(job.coverage, update)
        everything = self._processes.gather(returned)
        merged = [job for job in finished if everything[job.key].accepted and weights[job.key] > 0]
        lowest = min((parts.norm.rank(job) for job in merged), default=math.inf)
        aggregate.update(self._buffers.finish(reduce, lowest))
        self._memory.share(self._processes)
        self._refuse_untrained(state, everything)
        if spare is not None:
            gathered = self._processes.gather({job.key: update for job, update in kept})
            updates = {key: _moved(update, torch_device) for key, update in gathered.items()}
            members = [
                Member(job, updates[job.key], weights[job.key], parts.norm.rank(job) == lowest)
                for job in finished
                if job.key in updates
            ]
            own_scores = parts.contribution.score_cohort(state, Coalitions(state, members, aggregate, spare))
            scores = self._processes.from_first(own_scores)
            for key in updates:
                everything[key].score = scores.get(key[0])
        return aggregate, _reports(state, finished, weights, everything)

    def settle(self, state: RoundState, in_flight: Sequence[Job], torch_device: torch.device) -> None:
        """Compute the updates of jobs that will be back, before the weights that they started from are gone."""
        waiting = [job for job in in_flight if job.update is None and job.lost_s is None]
        own = {job.key: self._train(state, job, torch_device) for job in self._processes.share(waiting)}
        updates = self._processes.gather(own)
        for job in waiting:
            job.update = _moved(updates[job.key], torch_device)

    def _weights(self, state: RoundState, finished: Sequence[Job]) -> dict[JobKey, float]:
        """Return every job's weight: its client's, discounted by the versions that it is late.

        As a float32, whose sums in float64 are exact: then they don't depend on which process adds which.
        """
        of_clients = self._parts.contribution.weights(state, list(dict.fromkeys(job.client for job in finished)))
        weights = [of_clients[job.client] * self._discount(state, job) for job in finished]
        return {job.key: one for job, one in zip(finished, torch.tensor(weights).tolist(), strict=True)}

    def _discount(self, state: RoundState, job: Job) -> float:
        return self._parts.schedule.discount(state.round_idx - job.round_idx)

    def _refuse_untrained(self, state: RoundState, returned: Mapping[JobKey, _Returned]) -> None:
        """Refuse a module that skips every batch of every client; once one has taken a step, skipping is its right."""
        if self._has_trained is None:  # a run that is resumed was not refused before
            self._has_trained = state.round_idx > 0
        self._has_trained |= any(back.trained for back in returned.values())
        if returned and not self._has_trained:
            raise UnsupportedClientError(
                f"{self._client_name}.training_step returned None for every batch of every client in round "
                f"{state.round_idx + 1}, so nothing was trained; end it with `return loss` (a module that optimises "
                "manually must step its optimizer)"
            )

    def _train(self, state: RoundState, job: Job, torch_device: torch.device) -> Update:
        if job.update is not None:
            return job.update
        parts = self._parts
        start = parts.download.weights(state, job.client)
        summary = parts.contribution.summary(job.client)
        task = ClientTask(
            client=job.client,
            round_idx=job.round_idx,
            seed=_client_seed(state, job),
            # A full model is read where it is: the copy would cost as much as a step of a small network.
            weights=start if job.coverage.is_full else job.coverage.slice(start),
            masks=job.coverage.masks,
            lr_factor=parts.local.lr_factor(job.round_idx),
            statistics=parts.importance.statistics | parts.contribution.statistics,
            local=parts.local,
            norm=parts.norm,
            compression=parts.compression,
            share=job.share,
            level=job.level,
            memory=self._memory.get(job.client, job.coverage),
            summarise=None if summary is None else partial(_summarised, summary, state.seed),
        )
        module = self._thin_modules.get(job.coverage, torch_device)
        update = run_client(task, module, self._data.client(job.client))
        if parts.aggregation.needs_start:
            # A full model's task reads the global weights where they are, and those move on.
            update.start = {name: task.weights[name].clone() for name in (*update.delta, *update.buffers)}
        return update


def _client_seed(state: RoundState, job: Job) -> int:
    """Return the seed of the client's draws; a second job from one version isn't the first over again."""
    if not job.repeat:
        return state.seed
    return derive_seed(state.seed, job.round_idx, job.client, f"repeat/{job.repeat}")


def _summarised(summary: Summarise, seed: int, module: nn.Module, data: ClientData) -> Tensor:
    return summary(module, data, seed)


def _moved(update: Update, torch_device: torch.device) -> Update:
    """Return the update on this process's device: what another has sent lies on that one's."""

    def there(state: State) -> State:
        return {name: value.to(torch_device) for name, value in state.items()}

    statistics = {name: there(state) for name, state in update.statistics.items()}
    start = None if update.start is None else there(update.start)
    return replace(update, delta=there(update.delta), buffers=there(update.buffers), statistics=statistics, start=start)


def _is_trained(update: Update) -> bool:
    # A module that optimises by hand may step without a word to the loop; what has moved tells.
    return update.num_steps > 0 or any(bool(value.any()) for value in update.delta.values())


def _reports(
    state: RoundState,
    finished: Sequence[Job],
    weights: dict[JobKey, float],
    returned: dict[JobKey, _Returned],
) -> list[Report]:
    """Return one report per finished job, with weights normalised over the accepted ones."""
    total = sum(weights[job.key] for job in finished if returned[job.key].accepted) or 1.0
    reports = []
    for job in finished:
        back = returned[job.key]
        reports.append(
            Report(
                client=job.client,
                round_idx=job.round_idx,
                ratio=job.ratio,
                work=job.work,
                timing=job.timing,
                finish_s=job.finish_s,
                num_examples=int(state.num_examples[job.client]),
                metrics=back.metrics,
                weight=weights[job.key] / total if back.accepted else 0.0,
                contribution=back.score,
                accepted=back.accepted,
                upload_bytes=back.upload_bytes,
                num_steps=back.num_steps,
                share=job.share,
                level=job.level,
                dispatched_s=job.dispatched_s,
                staleness=state.round_idx - job.round_idx,
                energy_j=job.energy_j,
                device=job.device,
            )
        )
    return reports
