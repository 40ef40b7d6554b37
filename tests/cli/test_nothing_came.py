"""A run in which no update was ever merged says so, and fails."""

import pytest

from fedlight.cli import main
from fedlight.tracking import RunSummary

FIT = ("fit", "--config", "tiny.yaml", "--test_after_fit", "false")
DROPS = ("--model.fleet", "ChangingFleet", "--model.fleet.devices", "High", "--model.fleet.connectivity", "Drops")
LATE = "--model.algorithm.schedule"
FEDDUAP = ("--model.algorithm", "FedDUAP", "--data.server_fraction", "0.2")
SMALL = "[{name: a, share: 1, macs_per_s: 1e9, down_bits_per_s: 1e7, up_bits_per_s: 1e7, memory_bytes: 30000}]"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            (*DROPS, "--model.fleet.connectivity.per_job", "1"),
            "no result of any client came back in 2 rounds (6 lost as dropped), so no update was merged; let fewer "
            "connections break (model.fleet.connectivity)",
        ),
        (
            (LATE, "Deadline", f"{LATE}.deadline_s", "0.001", f"{LATE}.max_doublings", "0"),
            "no result of any client came back in 2 rounds (6 lost as late), so no update was merged; give results "
            "more time (deadline_s of the schedule) or take late ones too (late: keep)",
        ),
        (
            (LATE, "Deadline", f"{LATE}.deadline_s", "0.001", f"{LATE}.max_doublings", "0", f"{LATE}.late", "keep"),
            "no result of any client came back in 2 rounds (3 still at work), so no update was merged; let the run "
            "last for more rounds (trainer.max_epochs)",
        ),
        (
            # Before it is pruned everybody's map is the full one, which is larger than that.
            (*FEDDUAP, "--model.fleet", "DeviceFleet", "--model.fleet.classes", SMALL),
            "no result of any client came back in 2 rounds (unfit for lack of memory: 0, 1, 2), so no update was "
            "merged; raise memory_bytes of the devices (model.fleet) or choose a smaller client model",
        ),
    ],
)
def test_a_run_to_which_nothing_came_back_has_failed(capsys, options, line):
    assert main([*FIT, *options, "--trainer.max_epochs", "2"]) == 2
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1] == f"fedlight: {line}"
    assert "Run ended, and no result ever came back" in captured.out
    assert "Run finished" not in captured.out
    assert ("clients unfit" in captured.out) == ("unfit" in line)


def test_a_run_that_has_merged_something_goes_on_without(capsys):
    last = "out/version_0/checkpoints/last.ckpt"
    assert main([*FIT, *DROPS, "--model.fleet.connectivity.per_job", "0"]) == 0
    capsys.readouterr()
    more = ("--trainer.max_epochs", "2", "--ckpt_path", last)
    assert main([*FIT, *DROPS, "--model.fleet.connectivity.per_job", "1", *more]) == 0
    assert "Run finished" in capsys.readouterr().out


def test_what_was_not_seen_is_no_failure():
    summary = RunSummary()
    assert summary.failure is None  # no round yet
    summary.load_state_dict({"totals": {"rounds": 3.0}})
    assert summary.failure is None  # somebody else saw these rounds
    summary.load_state_dict({"totals": {"rounds": 3.0, "seen": 3.0}})
    assert summary.failure == (
        "no result of any client came back in 3 rounds (nobody was sent off), so no update was merged; check who is "
        "selected and asked for work"
    )
