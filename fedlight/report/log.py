"""Event files of TensorBoard as one tidy table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from fedlight.core import tags
from fedlight.errors import DataError
from fedlight.report.runs import Run

if TYPE_CHECKING:
    import pandas as pd

COLUMNS: Final = ("run", "label", "cell", "seed", "round", "simulated_s", "wall_s", "tag", "value")
"""Columns of a log: who, when (round, simulated and measured seconds since the start), what."""


def read_log(runs: Sequence[Run]) -> pd.DataFrame:
    """Return every scalar of every run, one row each, with the columns :data:`COLUMNS`.

    ``wall_s`` is the measured seconds of all rounds up to this one. Where a resumed run has logged a round twice, the
    later one counts.

    Raises:
        DataError: a run has logged nothing, or no simulated time.
    """
    import pandas as pd

    frames = [_read_run(run) for run in runs]
    return pd.concat(frames, ignore_index=True)[list(COLUMNS)]


def _read_run(run: Run) -> pd.DataFrame:
    import pandas as pd

    rows = [(tag, step, value) for tag, series in _scalars(run).items() for step, value in series.items()]
    frame = pd.DataFrame(rows, columns=["tag", "round", "value"]).astype({"round": "int64", "value": "float64"})
    seconds = _by_round(frame, tags.SIMULATED_S)
    if seconds.empty:
        raise DataError(
            f"report: {run.folder} has logged no {tags.SIMULATED_S}, so it can't be placed in time; leave the run out"
        )
    frame["simulated_s"] = frame["round"].map(seconds)
    frame["wall_s"] = frame["round"].map(_by_round(frame, tags.WALL_S).cumsum())
    return frame.assign(run=run.name, label=run.label, cell=run.cell_name, seed=run.seed)


def _by_round(frame: pd.DataFrame, tag: str) -> pd.Series[float]:
    """Return one tag's values by round, in the order of rounds."""
    return frame.loc[frame["tag"] == tag].set_index("round")["value"].sort_index()


def _scalars(run: Run) -> dict[str, dict[int, float]]:
    """Return step to value by tag, over all event files of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    # 0 keeps all scalars; of what isn't read here, one is as few as the reader takes.
    sizes = {"scalars": 0, "images": 1, "histograms": 1, "compressedHistograms": 1, "tensors": 1, "audio": 1}
    found: dict[str, dict[int, float]] = {}
    for path in run.events:
        log = EventAccumulator(str(path), size_guidance=sizes).Reload()
        for tag in log.Tags()["scalars"]:
            found.setdefault(tag, {}).update({event.step: event.value for event in log.Scalars(tag)})
    return found
