"""What tools/ computes itself; what it measures is in docs/results."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def speed_step():
    spec = importlib.util.spec_from_file_location("speed_step", ROOT / "tools" / "speed_step.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("after", "rounds"),
    [
        ([0.0] * 4 + [1.0] * 56, 5),  # the fifth round after the change is the first of three at the new value
        ([0.0, 1.0, 0.0, 0.0] + [1.0] * 56, 5),  # one alone doesn't count
        ([0.89] * 6 + [0.91] * 4 + [1.0] * 50, 7),  # nine tenths of the way do
        ([1.0] * 60, 1),
        ([0.0] * 60, None),
        ([-1.0] * 60, None),  # the wrong way
        ([0.1, -0.1] * 30, None),
    ],
)
def test_rounds_until_a_ratio_follows(speed_step, after, rounds):
    leads = np.array([0.02, -0.02] * 15 + after)
    assert speed_step.rounds_to_follow(leads, 30) == rounds
