"""A partition as a picture: who holds how much of what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

import numpy as np

from fedlight.data.statistics import PartitionStatistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_BARS: Final = 60
"""Clients up to which each has a bar of its own; more become a heat map."""

MAX_COLOURS: Final = 20
"""Classes that can be told apart by colour; more become a heat map."""

MAX_COLUMNS: Final = 1000
"""Columns of a heat map; of more clients, neighbours share one, which shows their mean."""

MAX_CLIENT_NAMES, MAX_CLASS_NAMES = 40, 24
"""Names on an axis that still read well; of more every other, third, ... is written."""

HEAVY_TAIL: Final = 20
"""Largest amount over the median from which amounts are drawn on a logarithmic scale."""

INK, HIGHLIGHT = "#3b6ea5", "#c44e52"


def draw_partition(statistics: PartitionStatistics) -> np.ndarray:
    """Return the picture as uint8[height, width, 3].

    Up to 60 clients and 20 classes are stacked bars, one per client, examples by class. More are a heat map, clients
    by classes, of the share that a class has at a client, the clients sorted by their main class; the amounts stand
    above it. Data without class labels are bars of amounts. Below are the Jensen-Shannon distances to the whole's mix,
    and the levels of each corruption.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sight = _Sight(statistics)
    panels = {} if statistics.js_distance is None else {"JS distance": statistics.js_distance}
    panels |= {name: values for name, values in statistics.levels.items() if values.any()}
    heights = ([1.0, 2.6] if sight.heat else [2.6]) + [0.75] * len(panels)
    figure = Figure(figsize=(9.5, 0.9 + 1.15 * sum(heights)), dpi=110, layout="constrained", facecolor="white")
    canvas = FigureCanvasAgg(figure)
    rows = figure.subplots(len(heights), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    if sight.heat or statistics.counts is None:
        _draw_bars(rows[0], sight.columns(statistics.sizes), INK)
        if statistics.sizes.max() > HEAVY_TAIL * np.median(statistics.sizes):
            rows[0].set(yscale="log", ylim=(0.7 * statistics.sizes.min(), 1.3 * statistics.sizes.max()))
    else:
        _draw_stacks(rows[0], statistics)
    _name(rows[0], "examples")
    if sight.heat:
        _draw_heat(figure, rows[1], statistics, sight)
    for axes, (name, values) in zip(rows[len(heights) - len(panels) :], panels.items(), strict=True):
        _draw_bars(axes, sight.columns(values), HIGHLIGHT if name in statistics.levels else INK)
        _name(axes, name.replace("_", " ").replace(" ", "\n", 1))
        if name == "JS distance":
            axes.set_ylim(0, 1)
    for axes in rows:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="x", length=0)
    classes = "" if statistics.counts is None else f", {statistics.counts.shape[1]} classes"
    title = f"{statistics.num_clients:,} clients, {int(statistics.sizes.sum()):,} examples{classes}"
    rows[0].set_title(title, loc="left", fontsize=11, fontweight="bold")
    _label_clients(rows[-1], statistics, sight)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels: np.ndarray = np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]
    return pixels


@final
class _Sight:
    """What is shown from left to right: clients as they are numbered, or sorted and, if they are many, in groups.

    Attributes:
        heat: whether classes are shown as a heat map.
        each: whether every client has a bar of its own, at the place of its number.
        num_columns: bars from left to right.
    """

    def __init__(self, statistics: PartitionStatistics) -> None:
        self.each = statistics.num_clients <= MAX_BARS
        shares = statistics.shares
        self.heat = shares is not None and not (self.each and shares.shape[1] <= MAX_COLOURS)
        if self.each:
            self._order = np.arange(statistics.num_clients)
        elif shares is None:
            self._order = np.argsort(-statistics.sizes, kind="stable")
        else:
            self._order = np.lexsort((-shares.max(axis=1), shares.argmax(axis=1)))
        self.num_columns = min(statistics.num_clients, MAX_COLUMNS)
        self._starts = np.arange(self.num_columns) * statistics.num_clients // self.num_columns

    def columns(self, values: np.ndarray) -> np.ndarray:
        """Return one row per column, the mean of its clients' rows."""
        sums = np.add.reduceat(values[self._order].astype(np.float64), self._starts, axis=0)
        counts = np.diff(np.append(self._starts, len(values)))
        means: np.ndarray = sums / counts.reshape(-1, *[1] * (values.ndim - 1))
        return means


def _name(axes: Axes, name: str) -> None:
    axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9, labelpad=10)
    axes.tick_params(axis="y", labelsize=8)


def _draw_stacks(axes: Axes, statistics: PartitionStatistics) -> None:
    from matplotlib import colormaps
    from matplotlib.patches import Patch

    assert statistics.counts is not None  # noqa: S101 - for the type checker: only drawn where there are classes
    num_classes = statistics.counts.shape[1]
    colours = colormaps["tab10" if num_classes <= 10 else "tab20"].colors  # type: ignore[attr-defined]
    tops = statistics.counts.cumsum(axis=1)
    for label in range(num_classes):
        _draw_blocks(axes, tops[:, label] - statistics.counts[:, label], tops[:, label], colours[label])
    axes.set_ylim(0, 1.05 * float(tops.max()))
    # From top to bottom as the bars are stacked.
    axes.legend(
        handles=[Patch(color=colours[label], label=name) for label, name in enumerate(statistics.names_of_classes())][
            ::-1
        ],
        title="class",
        fontsize=8,
        title_fontsize=8,
        frameon=False,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.02),
        handlelength=1.0,
        borderaxespad=0.2,
    )


def _draw_bars(axes: Axes, values: np.ndarray, colour: str) -> None:
    """Draw a bar per column; of many, a filled line, which is the same and quick."""
    if len(values) <= MAX_BARS:
        _draw_blocks(axes, np.zeros(len(values)), values, colour)
    else:
        axes.stairs(values, np.arange(len(values) + 1) - 0.5, fill=True, color=colour, linewidth=0)
    axes.set_ylim(min(0.0, 1.05 * float(values.min())), max(0.0, 1.05 * float(values.max())) or 1.0)
    if values.min() < 0:
        axes.axhline(0, color="black", linewidth=0.6)
    axes.locator_params(axis="y", nbins=4)


def _draw_blocks(axes: Axes, bottoms: np.ndarray, tops: np.ndarray, colour: Any) -> None:
    """Draw one bar per client, from bottom to top: as one collection, since a patch each takes seconds."""
    from matplotlib.collections import PolyCollection

    left = np.arange(len(tops)) - 0.42
    corners = [(left, bottoms), (left, tops), (left + 0.84, tops), (left + 0.84, bottoms)]
    vertices = np.stack([np.stack(corner, axis=1) for corner in corners], axis=1)
    axes.add_collection(PolyCollection(list(vertices), facecolors=[colour], linewidths=0))


def _draw_heat(figure: Any, axes: Axes, statistics: PartitionStatistics, sight: _Sight) -> None:
    assert statistics.shares is not None  # noqa: S101 - for the type checker: only drawn where there are classes
    table = sight.columns(statistics.shares).T
    names = statistics.names_of_classes()
    image = axes.imshow(
        table,
        aspect="auto",
        interpolation="nearest",
        cmap="Blues",
        vmin=0,
        vmax=float(table.max()),
        extent=(-0.5, sight.num_columns - 0.5, len(names) - 0.5, -0.5),
    )
    step = -(-len(names) // MAX_CLASS_NAMES)
    axes.set_yticks(range(0, len(names), step), labels=names[::step])
    _name(axes, "class")
    axes.tick_params(length=0)
    bar = figure.colorbar(image, ax=axes, pad=0.015, fraction=0.04)
    bar.set_label("share of the client's examples", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)


def _label_clients(axes: Axes, statistics: PartitionStatistics, sight: _Sight) -> None:
    axes.set_xlim(-0.6, sight.num_columns - 0.4)
    if not sight.each:
        by = "amount" if statistics.shares is None else "main class"
        axes.set_xlabel(f"clients, sorted by {by}", fontsize=9)
        axes.set_xticks([])
        return
    axes.set_xlabel("client", fontsize=9)
    names = statistics.client_names or [str(client) for client in range(statistics.num_clients)]
    step = -(-len(names) // MAX_CLIENT_NAMES)
    upright = max(map(len, names)) <= 3
    shown = [name if len(name) <= 24 else name[:23] + "…" for name in names[::step]]
    axes.set_xticks(range(0, len(names), step), labels=shown, fontsize=8, rotation=0 if upright else 90)
