"""Which metric a run is watched by, and which way it gets better."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal

Mode = Literal["max", "min"]

ACCURACY: Final = "val/accuracy"
LOSS: Final = "val/loss"
VALIDATION: Final = ("val/", "val_")
"""Starts of the names under which modules log validation metrics."""

LOWER_IS_BETTER: Final = frozenset(
    {
        "bce", "bpc", "brier", "cer", "cost", "crossentropy", "distance", "divergence", "ece",
        "entropy", "err", "error", "fid", "hamming", "kl", "kld", "mae", "mape",
        "mse", "msle", "nll", "perplexity", "ppl", "rmse", "rmsle", "smape", "wer",
    }
)  # fmt: skip
"""Words in a metric's name that say so."""


def choose_metric(names: Iterable[str]) -> str | None:
    """Return the metric to follow: val/accuracy, else the first of validation that is no loss, else val/loss.

    Args:
        names: what has been logged, in that order.

    Returns:
        The name; None where validation has logged nothing.
    """
    # Lightning adds name_step and name_epoch where a module asks for both.
    logged = [name for name in names if name.startswith(VALIDATION) and not name.endswith(("_step", "_epoch"))]
    others = [name for name in logged if not name.endswith("loss")]
    return next((name for name in (ACCURACY, *others, LOSS, *logged) if name in logged), None)


def better(name: str) -> Mode:
    """Return which way a metric gets better, as far as its name tells: losses and errors down, anything else up."""
    words = re.split(r"[^a-z0-9]+", name.lower())
    down = any(word in LOWER_IS_BETTER or word.endswith(("loss", "error")) for word in words)
    return "min" if down else "max"
