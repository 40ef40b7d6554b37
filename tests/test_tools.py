"""What tools/ computes itself; what it measures is in docs/results."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]


def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def speed_step():
    return tool("speed_step")


def test_ratio_curve_takes_each_seeds_last_round_by_then():
    rows = [("ratio 0", 0, 1.0, 0.1), ("ratio 0", 0, 2.0, 0.5), ("ratio 0", 0, 9.0, 0.9), ("ratio 0", 1, 2.0, 0.7)]
    rows += [("ratio 0.2", seed, 3.0, 0.4) for seed in (0, 1)]
    results = pd.DataFrame(rows, columns=["label", "seed", "simulated_s", "value"]).assign(tag="val/accuracy")
    found = tool("ratio_curve").curve(results, at_s=5.0)
    assert list(found.index) == [0.0, 0.2]
    assert found["mean"].tolist() == pytest.approx([0.6, 0.4])
    # of .5 and .7: deviation .1 sqrt 2, over sqrt 2, times Student's t at .975 with one degree of freedom
    assert found["half"].tolist() == pytest.approx([12.706204736 * 0.1, 0.0])


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
