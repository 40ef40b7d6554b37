"""Runs in processes of their own: killed and resumed, or shared by two, they are the run that one process does."""

import json
import multiprocessing
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from toy_run import HANGING, train

SCRIPT = Path(__file__).resolve().parent.parent / "toy_run.py"
ROUNDS = 7
HANG = {"hang_in": 3}


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
    train(folder, ROUNDS)
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


def kill_and_resume(folder, *arguments):
    """Kill a run in the middle of its fourth round, resume it in a new process, and return its result."""
    options = {argument.removeprefix("--"): True for argument in arguments}
    process = multiprocessing.get_context("fork").Process(target=train, args=(folder, ROUNDS), kwargs=options | HANG)
    process.start()
    while not (folder / HANGING).exists():
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join()
    killed = torch.load(folder / "last.ckpt", weights_only=True)["fedlight"]
    assert killed["round_idx"] == 3
    run(folder, "--resume", *arguments)
    return killed, result(folder)


def assert_resumed(resumed, expected):
    for key in ("state_dict", "optimizer_states", "fedlight"):
        assert_same(resumed[0][key], expected[0][key])
    assert resumed[1] == expected[1]
    assert len(resumed[1]) == ROUNDS


@pytest.mark.slow  # with more to keep, or to share, the test below does the same
def test_a_killed_run_resumes_bit_for_bit(whole, tmp_path):
    assert_resumed(kill_and_resume(tmp_path)[1], whole)


def test_a_killed_run_with_jobs_in_flight_resumes_bit_for_bit(tmp_path):
    killed, resumed = kill_and_resume(tmp_path / "killed", "--deep", "--buffered")
    assert len(killed["clock"]["jobs"]) >= 2
    train(tmp_path / "whole", ROUNDS, deep=True, buffered=True)
    assert_resumed(resumed, result(tmp_path / "whole"))


def assert_equal_run(shared, expected):
    """What two processes did is what one did, bit for bit."""
    for key in ("state_dict", "fedlight"):
        assert_same(shared[0][key], expected[0][key])
    assert shared[1].keys() == expected[1].keys()
    for round_idx, line in expected[1].items():
        assert shared[1][round_idx]["ratios"] == line["ratios"]
        assert shared[1][round_idx]["end_s"] == line["end_s"]


@pytest.mark.slow  # with more to keep, or to share, the test below does the same
def test_two_processes_give_the_same_run(whole, tmp_path):
    run(tmp_path, "--processes", "2")
    assert_equal_run(result(tmp_path), whole)


def test_two_processes_share_normalisation_dropout_and_statistics(tmp_path):
    train(tmp_path / "one", ROUNDS, deep=True)
    run(tmp_path / "two", "--processes", "2", "--deep")
    one, two = result(tmp_path / "one"), result(tmp_path / "two")
    assert_equal_run(two, one)
    assert {0.0} < {ratio for line in one[1].values() for ratio in line["ratios"].values()}


def test_processes_that_round_differently_stay_together(tmp_path):
    """What the server makes of its own data is taken from the first process, or the two would drift apart."""
    command = [sys.executable, str(SCRIPT.with_name("drifting_run.py")), str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert_same(first, second)
    assert set(first["contributions"].values()) == {1.0}
    assert first["agreed"] == 1.0
