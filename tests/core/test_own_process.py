"""Runs in processes of their own: killed and resumed, or shared by two, they are the run that one process does."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).resolve().parent.parent / "toy_run.py"
ROUNDS = 7


def run(folder, *arguments):
    command = [sys.executable, str(SCRIPT), str(folder), str(ROUNDS), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True)


def result(folder):
    """The final checkpoint, and what every round decided (the last word on a round counts)."""
    lines = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    return torch.load(folder / "last.ckpt", weights_only=True), {line["round"]: line for line in lines}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run(folder)
    return result(folder)


def assert_same(one, other):
    """Bit for bit: tensors, numbers, and everything that holds them."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    else:
        assert one == other


def test_a_killed_run_resumes_bit_for_bit(whole, tmp_path):
    command = [sys.executable, str(SCRIPT), str(tmp_path), str(ROUNDS), "--hang-in", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert any("hanging" in line for line in process.stdout)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["fedlight"]["round_idx"] == 3
    run(tmp_path, "--resume")
    resumed, rounds = result(tmp_path)
    expected, expected_rounds = whole
    assert_same(resumed["state_dict"], expected["state_dict"])
    assert_same(resumed["optimizer_states"], expected["optimizer_states"])
    assert_same(resumed["fedlight"], expected["fedlight"])
    assert rounds == expected_rounds
    assert len(rounds) == ROUNDS


def test_two_processes_give_the_same_run(whole, tmp_path):
    run(tmp_path, "--processes", "2")
    shared, rounds = result(tmp_path)
    expected, expected_rounds = whole
    for name, value in expected["state_dict"].items():
        torch.testing.assert_close(shared["state_dict"][name], value, rtol=0, atol=1e-6)
    for round_idx, line in expected_rounds.items():
        assert rounds[round_idx]["ratios"] == line["ratios"]
        assert rounds[round_idx]["end_s"] == line["end_s"]
