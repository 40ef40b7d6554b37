"""One look for all pictures: colours that colour-blind people tell apart, little ink, no frame."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT = "#1c2230", "#c3c9d4"
"""Colours of text and of thin lines; on a page they follow its own (light or dark)."""

PALETTE: Final = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C6D31", "#6A51A3", "#882255", "#8A8F00",
)  # fmt: skip
"""Okabe and Ito's colours (2008) without the baseline's black and with brown for yellow, then three in their manner."""

PER_STYLE = 7
"""Variants that share a line style and a marker: beyond those, colour alone would not tell them apart."""

DASHES: Final = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))
"""Line styles, for as many variants each as colours tell apart."""

MARKERS: Final = ("o", "s", "^", "D")

SEQUENTIAL = "cividis"
"""Colour map that colour-blind people see as others do."""

SCALE = 1.6
"""Pixels of a page per point of a picture."""

DPI = 200
"""Dots per inch of PNG files."""

LETTERS_PER_INCH = 11
"""Letters of a panel's bold title that fit into an inch."""

_RC: Final[dict[Any, Any]] = {
    "axes.axisbelow": True, "axes.edgecolor": FAINT, "axes.facecolor": "none",
    "axes.grid": True, "axes.labelcolor": INK, "axes.labelsize": 9,
    "axes.spines.right": False, "axes.spines.top": False, "axes.titlelocation": "left", "axes.titlesize": 10,
    "axes.titleweight": "bold", "axes.titlecolor": INK, "figure.facecolor": "none", "font.family": ["DejaVu Sans"],
    "font.size": 9, "grid.color": FAINT, "grid.linewidth": 0.5, "grid.alpha": 0.7, "legend.fontsize": 8.5,
    "legend.frameon": False, "legend.labelcolor": INK, "lines.linewidth": 1.5, "pdf.fonttype": 42,
    "savefig.facecolor": "white", "svg.fonttype": "none", "text.color": INK, "text.parse_math": False,
    "xtick.color": INK, "xtick.labelsize": 8.5, "ytick.color": INK, "ytick.labelsize": 8.5,
    "xtick.major.size": 0, "ytick.major.size": 0, "xtick.minor.size": 0, "ytick.minor.size": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Look:
    """How one variant is drawn everywhere.

    Attributes:
        color: its colour.
        dashes: its line style, as matplotlib takes it.
        marker: its marker, as matplotlib takes it.
    """

    color: str
    dashes: str | tuple[int, tuple[float, ...]]
    marker: str


def looks(labels: Sequence[str], baseline: str | None) -> dict[str, Look]:
    """Return how each variant is drawn; the baseline is ink and dashed, wherever it is."""
    others = [label for label in labels if label != baseline]
    colors = islice(cycle(PALETTE), len(others))
    found = {
        label: Look(color, DASHES[index // PER_STYLE % len(DASHES)], MARKERS[index // PER_STYLE % len(MARKERS)])
        for index, (label, color) in enumerate(zip(others, colors, strict=True))
    }
    if baseline in labels and baseline is not None:
        found[baseline] = Look(INK, (0, (4, 1.5)), "o")
    return {label: found[label] for label in labels}


def wrapped(title: str, inches: float) -> str:
    """Return a panel's title in as many lines as it needs to stay over a panel of a width."""
    return "\n".join(textwrap.wrap(title, max(8, round(inches * LETTERS_PER_INCH))))


@contextmanager
def drawing(name: str) -> Iterator[None]:
    """Draw in the report's style; ``name`` keeps ids of pictures on one page apart."""
    from matplotlib import rc_context

    with rc_context({**_RC, "svg.hashsalt": name}):
        yield


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure of a size in inches, and its axes row by row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def save(figure: Figure, folder: Path, name: str) -> str:
    """Write a figure as SVG, PDF and PNG, and return it as SVG for a page, in the page's own colours and font."""
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", facecolor="none", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    # The layout stays as it is: computing it anew for each format would double the time.
    figure.set_layout_engine("none")
    svg = buffer.getvalue()
    (folder / f"{name}.svg").write_text(svg)
    figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None})
    figure.savefig(folder / f"{name}.png", dpi=DPI)
    return inline(svg, name)


def inline(svg: str, name: str) -> str:
    """Return an SVG file as an element of a page: no header, ids of its own, colours and font of the page."""
    svg = svg[svg.index("<svg") :]
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0]
    style = f"max-width:{SCALE * float(width):.0f}px"
    svg = f'<svg viewBox="0 0 {width} {height}" style="{style}">' + svg[svg.index(">") + 1 :]
    svg = re.sub(r'(?<=\bid=")|(?<=href="#)|(?<=url\(#)', f"{name}-", svg)
    # A style element would hold for the whole page.
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    svg = svg.replace(INK, "currentColor").replace(FAINT, "var(--line)")
    return re.sub(r"font-family: 'DejaVu Sans'[^;\"]*", "font-family: inherit", svg)
