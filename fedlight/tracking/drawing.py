"""Figures as pixels, and where they go: to TensorBoard and to the run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI: Final = 110
INK: Final = "#1c2230"
NOTHING: Final = "#e8e8e8"
"""Colour of what isn't there."""

PALETTE: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#8C6D31", "#5B4FA0", "#7A7A7A")
"""Colours that colour-blind people tell apart (after Okabe and Ito 2008)."""


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def pixels_of(figure: Figure) -> np.ndarray:
    """Return a figure as uint8[height, width, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)  # noqa: S101 - new_figure gave it one
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels: np.ndarray = np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]
    return pixels


def publish(trainer: Trainer, folder: Path, name: str, picture: np.ndarray, round_idx: int) -> None:
    """Write a picture as ``<name>.png`` into a folder and, where the run logs to TensorBoard, as ``picture/<name>``."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(folder / f"{name}.png")
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(f"picture/{name}", picture, round_idx, dataformats="HWC")


def time_unit(seconds: float) -> tuple[float, str]:
    """Return the unit in which a stretch of simulated time reads well: its seconds and its name."""
    for unit_s, name in ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s")):
        if seconds >= 3 * unit_s:
            return unit_s, name
    return (1.0, "s") if seconds >= 1 or seconds <= 0 else (1e-3, "ms")
