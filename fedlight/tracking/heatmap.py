"""Draws a table of rows by rounds as a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedlight.tracking.drawing import NOTHING, new_figure, pixels_of
from fedlight.tracking.history import History

MAX_LABELS = 40
"""Row labels that still read well; of more rows every other, third, ... is labelled."""


@dataclass(frozen=True)
class Heatmap:
    """How one kind of picture looks.

    Attributes:
        name: name of the picture: its tag is ``picture/<name>``, its file ``pictures/<name>.png``.
        title: what the picture shows.
        row_label: what the rows are.
        value_label: what the colours mean.
        limits: values at the ends of the colour scale; None: the smallest and largest value in the table.
        sort_rows: whether rows are ordered by their mean, smallest first, instead of as first seen.
    """

    name: str
    title: str
    row_label: str
    value_label: str
    limits: tuple[float, float] | None = None
    sort_rows: bool = False

    def render(self, history: History) -> np.ndarray:
        """Return the picture as uint8[height, width, 3]; what was never recorded is light grey."""
        from matplotlib import colormaps
        from matplotlib.ticker import MaxNLocator

        names, rounds, table = history.rows, history.rounds, history.matrix()
        if self.sort_rows:
            order = np.argsort(_row_means(table), kind="stable")
            names, table = [names[index] for index in order], table[order]
        longest = max((len(name) for name in names), default=0)
        height = min(12.0, max(2.6, 1.2 + 0.22 * len(names)))
        figure = new_figure(8.0 + 0.06 * longest, height)
        axes = figure.add_subplot()
        low, high, colors = self._scale(table)
        image = axes.imshow(
            table,
            aspect="auto",
            interpolation="nearest",
            cmap=colormaps[colors].with_extremes(bad=NOTHING),
            vmin=low,
            vmax=high,
            extent=(rounds[0] - 0.5, rounds[-1] + 0.5, len(names) - 0.5, -0.5),
        )
        axes.set_title(self.title, loc="left", fontsize=11, fontweight="bold")
        axes.set_xlabel("round")
        axes.set_ylabel(self.row_label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
        step = -(-len(names) // MAX_LABELS)
        axes.set_yticks(range(0, len(names), step), labels=names[::step], fontsize=8)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        bar = figure.colorbar(image, ax=axes, pad=0.015, fraction=0.04)
        bar.set_label(self.value_label)
        bar.outline.set_visible(False)
        return pixels_of(figure)

    def _scale(self, table: np.ndarray) -> tuple[float, float, str]:
        """Return the ends of the colour scale and the colour map; signed values get a scale centred on zero."""
        known = table[np.isfinite(table)]
        low, high = self.limits or ((float(known.min()), float(known.max())) if known.size else (0.0, 1.0))
        if low < 0 < high and self.limits is None:
            reach = max(-low, high)
            return -reach, reach, "RdBu"
        return low, high if high > low else low + 1.0, "viridis"


def _row_means(table: np.ndarray) -> np.ndarray:
    """Return the mean of each row's known values, 0 where there are none."""
    known = np.isfinite(table)
    means: np.ndarray = np.where(known, table, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return means
