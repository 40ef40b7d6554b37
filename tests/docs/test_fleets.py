"""The level mixes of docs/fleets.md can be copied as they stand, and keep what they say."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from fedlight.parts import PerLevel

TEXT = (Path(__file__).resolve().parents[2] / "docs/fleets.md").read_text()
PUBLISHED = {
    "HeteroFL": (20, 20, 20, 20, 20),
    "FedRolex": (6, 10, 11, 18, 55),
    "drop scale 0.5": (60, 10, 10, 10, 10),
    "uniform-10": (10,) * 10,
    "four sizes": (25, 25, 25, 25),
    "five sizes": (20, 20, 20, 20, 20),
    "5-10-25-60": (5, 10, 25, 60),
    "10-20-30-40": (10, 20, 30, 40),
    "5-5-10-20-60": (5, 5, 10, 20, 60),
    "FedGMR, medium": (10, 10, 20, 30, 30),
    "FedGMR, high": (10, 10, 10, 10, 60),
    "AdaptiveFL": (30, 30, 40),
    "NeFL": (20, 20, 20, 20, 20),
}
"""Clients of 100 at each level, the largest first."""


def mixes():
    for line in TEXT.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 5 and cells[1].startswith(("widths ", "parameters ")):
            yield cells


@pytest.mark.parametrize("cells", list(mixes()), ids=lambda cells: cells[0])
def test_a_mix_keeps_what_it_says(cells):
    name, keeps, levels, shares, source = cells
    part = PerLevel(levels=yaml.safe_load(levels.strip("`")), shares=yaml.safe_load(shares.strip("`")))
    kind, kept = keeps.split(" ", 1)
    power = {"widths": 1, "parameters": 2}[kind]
    assert [(1 - level) ** power for level in part.levels] == pytest.approx(
        [float(one) for one in kept.split(", ")], abs=1e-4
    )
    ratios = part.choose(SimpleNamespace(seed=0, num_examples=np.full(100, 1)), range(100))
    counts = tuple(list(ratios.values()).count(level) for level in part.levels)
    assert sum(counts) == 100
    for known, expected in PUBLISHED.items():
        if known in name:
            assert counts == expected
    assert source


def test_every_published_mix_is_there():
    names = [cells[0] for cells in mixes()]
    assert len(names) == 15
    for known in PUBLISHED:
        assert sum(known in name for name in names) == 1, known


def test_the_example_can_be_copied():
    line = re.search(r"^ratio: .*PerLevel.*$", TEXT, re.MULTILINE)
    assert line is not None
    PerLevel(**yaml.safe_load(line.group())["ratio"]["init_args"])
