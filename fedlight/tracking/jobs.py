"""Every job of a run as one line: what the file ``jobs.csv`` holds, and how it is read."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from fedlight.core.round_record import RoundRecord
from fedlight.core.types import Job
from fedlight.errors import DataError

JOBS_FILE: Final = "jobs.csv"
"""Name of the file in the run's folder."""

COLUMNS: Final = (
    "round", "client", "device", "dispatched_s", "download_s", "compute_s", "upload_s", "event_s", "staleness",
    "ratio", "cause", "energy_j", "weight", "aggregated_s",
)  # fmt: skip
"""Columns of the file, in order.

round: the round that heard of the job, from 0; staleness: versions by which the model had moved on since the job began.
dispatched_s, event_s: simulated time of the start, and of the return or the loss; download_s, compute_s, upload_s: what
each phase takes if nothing comes between, so a lost job's may reach beyond event_s. cause: why it is lost, ``rejected``
for an update that wasn't finite, empty for one that came back well. energy_j: joules spent. weight: share of the
round's aggregate. aggregated_s: simulated time at which that round ended.
"""

REJECTED: Final = "rejected"
AT_WORK: Final = "at work"
"""Cause of jobs that are still in flight: they are drawn, and never logged."""

Jobs = npt.NDArray[np.void]
"""Jobs as a structured array with the fields :data:`COLUMNS`."""

_TEXT: Final = {"device": "U32", "cause": "U12"}
_WHOLE: Final = {"round": "i8", "client": "i8", "staleness": "i8"}
DTYPE: Final = np.dtype([(name, _TEXT.get(name) or _WHOLE.get(name, "f8")) for name in COLUMNS])

MAX_BYTES: Final = 32 * 2**20
"""What is read of a file, from its end: some 250,000 jobs."""

Row = tuple[int, int, str, float, float, float, float, float, int, float, str, float, float, float]


def rows_of(record: RoundRecord, device: Callable[[int], str]) -> Iterator[Row]:
    """Yield a row for every job that one round heard of: first those that are back, then the lost ones."""
    for report in record.reports:
        timing = report.timing
        yield (
            record.round_idx, report.client, device(report.client), report.dispatched_s, timing.download_s,
            timing.compute_s, timing.upload_s, report.finish_s, report.staleness, report.ratio,
            "" if report.accepted else REJECTED, report.energy_j, report.weight, record.end_s,
        )  # fmt: skip
    for job in record.lost:
        yield _row(record, job, device, job.cause or "lost")


def in_flight_of(record: RoundRecord, device: Callable[[int], str]) -> Jobs:
    """Return the jobs that were still at work when a round ended."""
    return as_jobs([_row(record, job, device, AT_WORK) for job in record.in_flight])


def as_jobs(rows: Sequence[Row]) -> Jobs:
    """Return rows as an array."""
    return np.array(list(rows), dtype=DTYPE)


def read_jobs(path: Path, max_bytes: int = MAX_BYTES) -> Jobs:
    """Return the jobs of a run's file in the order of the file; of a longer one, those of the last rounds.

    Raises:
        DataError: the file is missing, or of another format.
    """
    try:
        with path.open("rb") as file:
            header = file.readline().decode().strip()
            begin = file.tell()
            skipped = max(begin, file.seek(0, io.SEEK_END) - max_bytes)
            file.seek(skipped)
            if skipped > begin:
                file.readline()  # the line that was cut in two
            text = file.read().decode()
    except OSError as error:
        raise DataError(
            f"can't read the run's jobs from {path} ({error.strerror}): give the folder of a run"
        ) from error
    if header != ",".join(COLUMNS):
        raise DataError(f"{path} begins with {header[:60]!r}, not with the columns of {JOBS_FILE}: it is another file")
    if not text.strip():
        return np.zeros(0, dtype=DTYPE)
    try:
        jobs = np.loadtxt(io.StringIO(text), dtype=DTYPE, delimiter=",", quotechar='"', comments=None, ndmin=1)
    except ValueError as error:
        raise DataError(f"{path} holds a line that is no job ({error}): remove that line") from error
    # The first of them may be a part of its round only.
    return jobs[jobs["round"] > jobs["round"][0]] if skipped > begin else jobs


def _row(record: RoundRecord, job: Job, device: Callable[[int], str], cause: str) -> Row:
    timing = job.timing
    return (
        record.round_idx, job.client, device(job.client), job.dispatched_s, timing.download_s, timing.compute_s,
        timing.upload_s, job.event_s, record.round_idx - job.round_idx, job.ratio, cause, job.spent_j, 0.0,
        record.end_s,
    )  # fmt: skip
