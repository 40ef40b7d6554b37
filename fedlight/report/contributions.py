"""Do contributions tell good data from bad? Scores of clients against what is known of their data, by rank."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fedlight.errors import DataError
from fedlight.report.runs import Run
from fedlight.report.statistics import Interval, mean_interval
from fedlight.report.summary import Cell, Variant
from fedlight.report.tables import NOTHING, Entry, Table

if TYPE_CHECKING:
    import pandas as pd

CLIENTS_FILE = "clients.csv"
"""What a fit writes of its partition: one line per client."""

CONTRIBUTION = "contribution/"
"""Start of the tags of clients' scores."""

NO_LEVELS = ("name", "copy_of", "examples", "js_distance", "effective_classes", "effective_examples")
"""Columns of the file that are no level of a corruption; nor are those of classes."""

MIN_CLIENTS = 3


def read_qualities(run: Run) -> dict[str, pd.Series[float]]:
    """Return what a run says of its clients' data, name to values by client; empty where it tells nothing.

    Levels of corruptions, where clients differ in them; else the distance of their classes from everybody's, else
    their numbers of examples.

    Raises:
        DataError: the file has no column ``client``.
    """
    import pandas as pd

    files = sorted(run.folder.rglob(CLIENTS_FILE))
    if not files:
        return {}
    table = pd.read_csv(files[-1], dtype={"client": str})
    if "client" not in table:
        raise DataError(f"report: {files[-1]} has no column client; mend or remove it")
    table = table.set_index("client")
    levels = [name for name in table if name not in NO_LEVELS and not str(name).startswith("class_")]
    for names in (levels, ["js_distance"], ["examples"]):
        told: dict[str, pd.Series[float]] = {}
        told |= {str(name): table[name] for name in names if name in table and table[name].nunique() > 1}
        if told:
            return told
    return {}


def mean_scores(run: Run, log: pd.DataFrame) -> pd.Series[float]:
    """Return every client's score, the mean over the rounds in which it has one; empty where none is logged."""
    mine = log.loc[(log["run"] == run.name) & log["tag"].str.fullmatch(CONTRIBUTION + r"\d+")]
    means: pd.Series[float] = mine.groupby(mine["tag"].str.removeprefix(CONTRIBUTION))["value"].mean()
    return means


def rank_correlation(scores: pd.Series[float], quality: pd.Series[float]) -> float | None:
    """Return Spearman's ρ in [-1, 1] over the clients that both have, ties at their mean rank.

    None for fewer than three clients, or where all of one are equal.
    """
    from scipy import stats

    shared = scores.index.intersection(quality.index)
    first, second = scores[shared], quality[shared]
    if len(shared) < MIN_CLIENTS or first.nunique() < 2 or second.nunique() < 2:
        return None
    return float(stats.spearmanr(first, second).statistic)


def largest_correlation(quality: pd.Series[float]) -> float:
    """Return the largest ρ of scores without ties with values that have some: √(1 - Σ (t³ - t) / (n³ - n)).

    t are the sizes of the groups of n clients that share a value.
    """
    count = len(quality)
    tied = sum(size**3 - size for size in quality.value_counts())
    return math.sqrt(1 - tied / (count**3 - count))


def make_contribution_table(cell: Cell, log: pd.DataFrame) -> Table | None:
    """Return how well each variant's contributions rank clients by their data; None where no run tells."""
    found = {variant.label: correlations for variant in cell.variants if (correlations := _correlations(variant, log))}
    qualities = list(dict.fromkeys(name for told in found.values() for name in told))
    if not qualities:
        return None
    heads = [("", "variant"), *(("ρ of contribution with", name.replace("_", " ")) for name in qualities)]
    rows = tuple((Entry(label), *(_entry(told.get(name, [])) for name in qualities)) for label, told in found.items())
    return Table(
        "contributions", "Rank correlation of contribution and data quality", _note(cell, qualities), tuple(heads), rows
    )


def _correlations(variant: Variant, log: pd.DataFrame) -> dict[str, list[float | None]]:
    """Return ρ by seed, by quality; empty where no run has both scores and qualities."""
    found: dict[str, list[float | None]] = {}
    for row in variant.rows:
        scores = mean_scores(row.run, log)
        if scores.empty:
            continue
        for name, quality in read_qualities(row.run).items():
            found.setdefault(name, []).append(rank_correlation(scores, quality))
    return found


def _entry(correlations: list[float | None]) -> Entry:
    interval = mean_interval(correlations)
    if not interval.num_values:
        return Entry(NOTHING)
    half = f" ± {interval.half:.2f}" if math.isfinite(interval.half) else ""
    return Entry(f"{interval.mean:.2f}".replace("-", "−") + half, count=_count(interval))


def _count(interval: Interval) -> str:
    return "" if interval.num_values == interval.num_asked else f"{interval.num_values} of {interval.num_asked}"


def _note(cell: Cell, qualities: list[str]) -> str:
    note = (
        "Spearman's rank correlation over clients, of a client's mean contribution over the rounds of the run with "
        "what is known of its data; mean over seeds ± half of its 95 % interval (Student's t). A measure that tells "
        "bad data from good has ρ near −1 with the level of a corruption; 0 is what chance gives."
    )
    bounds: dict[str, list[float]] = {}
    for curve in cell.curves:
        for name, quality in read_qualities(curve.run).items():
            bounds.setdefault(name, []).append(largest_correlation(quality))
    for name in qualities:
        most = sum(bounds[name]) / len(bounds[name])
        if most < 0.995:
            note += (
                f" Clients share values of {name.replace('_', ' ')}, so that no order of them reaches more than "
                f"{most:.2f} either way."
            )
    return note
