"""What all tests share."""

import os

# Two workers on two cores: each with a thread per core, they would wait for each other most of the time. Set before
# torch is imported; processes that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import settings

# The same examples every time, and no deadline, which a busy machine would miss.
settings.register_profile("the same every time", derandomize=True, deadline=None)
settings.load_profile("the same every time")


@pytest.fixture
def blank_pictures(monkeypatch):
    """Every picture of a run is four pixels: it is written where it belongs, and drawing takes no time.

    For tests that ask whether a run runs. What pictures show is tested in tests/tracking and tests/data.
    """
    from fedlight.data import overview
    from fedlight.tracking import pictures

    def blank(*_):
        return np.zeros((2, 2, 3), np.uint8)

    monkeypatch.setattr(overview, "draw_partition", blank)
    monkeypatch.setattr(pictures.Heatmap, "render", blank)
    for name in ("draw_energy", "draw_participation", "draw_staleness", "draw_timeline", "draw_waiting"):
        monkeypatch.setattr(pictures, name, blank)
