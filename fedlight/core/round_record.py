"""What one round did, for loggers and pictures."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from fedlight.core import tags
from fedlight.core.types import Job, Report


@dataclass(frozen=True)
class RoundRecord:
    """All that one round did.

    Attributes:
        round_idx: round, counted from 0.
        reports: finished clients in the order of their return.
        layer_sparsity: group name to the mean fraction removed over the finished clients.
        start_s: simulated time at the start of the round.
        end_s: simulated time at its end.
        wall_s: measured seconds of the round.
        metrics: further scalars by tag, among them what the parts report.
        lost: jobs that will never be back, in the order of their loss.
        in_flight: jobs that are still at work when the round ends.
        unfit: clients that were left out because no submodel fits their memory, or that it can't be cut to fit.
        unit_holders: group name to int64[units], the merged updates that held each unit; empty where all held all.
    """

    round_idx: int
    reports: Sequence[Report]
    layer_sparsity: Mapping[str, float]
    start_s: float
    end_s: float
    wall_s: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    lost: Sequence[Job] = ()
    in_flight: Sequence[Job] = ()
    unfit: Sequence[int] = ()
    unit_holders: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def waiting_share(self) -> float:
        """Share of the round in which a client had nothing to do, mean over the clients that had a job in it."""
        span = self.end_s - self.start_s
        if span <= 0:
            return 0.0
        busy_s: defaultdict[int, float] = defaultdict(float)
        for client, begin_s, until_s in self._spans():
            busy_s[client] += max(0.0, min(until_s, self.end_s) - max(begin_s, self.start_s))
        return float(np.mean([max(0.0, 1 - seconds / span) for seconds in busy_s.values()])) if busy_s else 0.0

    def _spans(self) -> Iterator[tuple[int, float, float]]:
        for report in self.reports:
            yield report.client, report.dispatched_s, report.dispatched_s + report.timing.total_s
        for job in (*self.lost, *self.in_flight):
            yield job.client, job.dispatched_s, job.event_s

    def scalars(self) -> dict[str, float]:
        """Return the round's scalars by TensorBoard tag (:data:`fedlight.core.tags.TAGS`)."""
        accepted = [report for report in self.reports if report.accepted]
        lost = [job.spent for job in self.lost]
        works = [*(report.work for report in self.reports), *lost]
        num_sent = sum(report.upload_bytes for report in self.reports) + sum(work.upload_bytes for work in lost)
        scalars = {
            tags.NUM_CLIENTS: float(sum(report.weight > 0 for report in accepted)),
            tags.REJECTED_CLIENTS: float(len(self.reports) - len(accepted)),
            tags.EMPTY_ROUND: float(not self.reports),
            tags.UPLINK_BYTES: float(num_sent),
            tags.DOWNLINK_BYTES: float(sum(work.download_bytes for work in works)),
            tags.MACS: float(sum(work.macs for work in works)),
            tags.SIMULATED_S: self.end_s,
            tags.WALL_S: self.wall_s,
            tags.WAITING_SHARE: self.waiting_share,
            tags.LOST_JOBS: float(len(self.lost)),
            tags.IN_FLIGHT: float(len(self.in_flight)),
            **{f"{tags.LOST}/{cause}": float(n) for cause, n in Counter(job.cause for job in self.lost).items()},
        }
        energy_j = sum(report.energy_j for report in self.reports) + sum(job.spent_j for job in self.lost)
        if energy_j > 0:
            scalars[tags.ENERGY_J] = energy_j
        if self.unfit:
            scalars[tags.UNFIT_CLIENTS] = float(len(self.unfit))
        if self.reports:
            scalars[tags.MEAN_RATIO] = float(np.mean([report.ratio for report in self.reports]))
            scalars[tags.STALENESS] = float(np.mean([report.staleness for report in self.reports]))
        names = {name for report in accepted for name in report.metrics}
        for name in sorted(names):
            told = [report for report in accepted if name in report.metrics]
            sizes = [report.num_examples for report in told]
            scalars[name] = float(np.average([report.metrics[name] for report in told], weights=sizes))
        return {**scalars, **_correlations(accepted), **self.metrics}


def _correlations(reports: Sequence[Report]) -> dict[str, float]:
    """Return what weights and contribution scores go with, over the clients that have a score.

    Pearson's correlation with the number of examples and with the kept fraction; none where a side is constant.
    """
    scored = [report for report in reports if report.contribution is not None]
    of = {
        "weight": np.array([report.weight for report in scored]),
        "score": np.array([report.contribution for report in scored], dtype=np.float64),
    }
    others = {
        "examples": np.array([report.num_examples for report in scored], dtype=np.float64),
        "kept": np.array([1 - report.ratio for report in scored]),
    }
    return {
        f"{tags.CONTRIBUTION}/{name}_vs_{other}": float(np.corrcoef(values, against)[0, 1])
        for name, values in of.items()
        for other, against in others.items()
        if len(scored) > 2 and _varies(values) and _varies(against)
    }


def _varies(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).all()) and float(np.ptp(values)) > 1e-9 * float(np.abs(values).max())
