"""Draws accuracy against the ratio that all clients have, at equal simulated time: one line per moment.

    python tools/ratio_curve.py runs/compare_ratio_sweep docs/images/ratio_curve.png [--at 10 30 100]

Reads results.csv of a finished configs/compare/ratio_sweep.yaml; the ratio is the number in a variant's label. A dot is
the mean over seeds of val/accuracy in the last measured round that ended by then; a bar is its 95 % interval (Student's
t).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from fedlight.report.statistics import mean_interval
from fedlight.report.style import drawing, looks


def curve(results: pd.DataFrame, at_s: float) -> pd.DataFrame:
    """Return, by ratio, the mean over seeds of the accuracy at a time and half of its 95 % interval."""
    rows = results[(results["tag"] == "val/accuracy") & (results["simulated_s"] <= at_s)].sort_values("simulated_s")
    last = rows.groupby(["label", "seed"])["value"].last().reset_index()
    last["ratio"] = last["label"].str.extract(r"([\d.]+)", expand=False).astype(float)
    told = {ratio: mean_interval(list(values)) for ratio, values in last.groupby("ratio")["value"]}
    return pd.DataFrame({ratio: {"mean": one.mean, "half": one.half} for ratio, one in told.items()}).T


def main() -> None:
    """Draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--at", type=float, nargs="+", default=[10.0, 30.0, 100.0], help="simulated seconds")
    wanted = parser.parse_args()
    results = pd.read_csv(wanted.comparison / "results.csv")
    from matplotlib.figure import Figure

    with drawing("ratio_curve"):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.subplots()
        labels = [f"after {at_s:g} s" for at_s in wanted.at]
        for at_s, (label, look) in zip(wanted.at, looks(labels, None).items(), strict=True):
            found = curve(results, at_s)
            axes.errorbar(
                found.index, 100 * found["mean"], 100 * found["half"], label=label, color=look.color, marker="o",
                markersize=4, capsize=2,
            )  # fmt: skip
        axes.set_xlabel("ratio: share of every layer removed, for all clients")
        axes.set_ylabel("val/accuracy (%)")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), title="simulated time")
        figure.savefig(wanted.picture, dpi=150)


if __name__ == "__main__":
    main()
