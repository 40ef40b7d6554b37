"""The worked example of docs/extending.md does what it says."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
import torch

from fedlight.algorithms import FedAvg
from fedlight.cli import main

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/extending.md").read_text()
LAST = "runs/quickstart/version_0/checkpoints/last.ckpt"


@pytest.fixture(autouse=True)
def _in_a_folder_with_the_file(tmp_path, monkeypatch, blank_pictures):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "turns.py").write_text(re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)[1])


def commands():
    return [shlex.split(line)[1:] for line in TEXT.splitlines() if line.startswith("fedlight fit")]


def test_both_lines_train(capsys):
    assert len(commands()) == 2
    for command in commands():
        assert main(command) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert out.count("round 3/3") == 2
    slots = torch.load(LAST, weights_only=True)["fedlight"]["slots"]
    # 20 clients in each of 3 rounds, and no unit that all of them had.
    trained = slots["importance"]["trained"]
    assert trained.max() <= 60
    assert trained.min() < 60


def test_it_resumes_bit_for_bit(capsys):
    start = [*commands()[0][:-2], "--data.max_train_examples", "200", "--trainer.max_epochs"]
    assert main([*start, "4", "--trainer.default_root_dir", "straight"]) == 0
    assert main([*start, "2"]) == 0
    assert main([*start, "4", "--ckpt_path", LAST]) == 0
    straight, resumed = (
        torch.load(path, weights_only=True) for path in (LAST.replace("runs/quickstart", "straight"), LAST)
    )
    assert straight["state_dict"].keys() == resumed["state_dict"].keys()
    for name, value in straight["state_dict"].items():
        assert torch.equal(value, resumed["state_dict"][name])
    assert torch.equal(*(one["fedlight"]["slots"]["importance"]["trained"] for one in (straight, resumed)))


def test_its_constants_are_shown_and_refused(capsys):
    assert main([*commands()[0], "--print_config"]) == 0
    assert re.search(r"class_path: turns.InTurn\n# +init_args:\n# +bonus: 0.5", capsys.readouterr().out)
    assert main([*commands()[0], "--model.algorithm.bonus", "-1"]) == 2
    assert capsys.readouterr().err.startswith("fedlight: model.algorithm (FairTurns): bonus=-1.0 is below 0")


def test_every_slot_is_in_the_table():
    rows = dict(re.findall(r"^\| `(\w+)` \| .* \| `(\w+)` \|$", TEXT, re.MULTILINE))
    slots = FedAvg().slots()
    assert list(rows) == list(slots)
    for slot, part in slots.items():
        assert rows[slot] in {kind.__name__ for kind in type(part).__mro__}
