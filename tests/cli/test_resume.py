"""A run that is stopped between two validations and resumed tells the same as one that wasn't."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fedlight.cli import main

FIT = ("fit", "--config", "tiny.yaml", "--test_after_fit", "false")
TABLE = ("rounds ", "val accuracy", "val loss", "simulated time", "sent ", "training work", "updates rejected")


def rows(out: str) -> list[str]:
    """Return the lines of the last table that can't differ between two runs of one seed."""
    cells = [line.strip("│ ") for line in out.rpartition("Run finished")[2].splitlines() if line.startswith("│")]
    return [" ".join(cell.split()) for cell in cells if cell.startswith(TABLE)]


@pytest.mark.parametrize(("stop", "end"), [(1, 4), (3, 5)])
def test_the_summary_of_a_resumed_run(stop, end, capsys):
    every = ("--trainer.check_val_every_n_epoch", "2")
    assert main([*FIT, *every, "--trainer.max_epochs", str(end), "--trainer.default_root_dir", "straight"]) == 0
    straight_out = capsys.readouterr().out
    assert main([*FIT, *every, "--trainer.max_epochs", str(stop)]) == 0
    last = "out/version_0/checkpoints/last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == stop
    assert main([*FIT, *every, "--trainer.max_epochs", str(end), "--ckpt_path", last]) == 0
    resumed_out = capsys.readouterr().out
    assert rows(resumed_out) == rows(straight_out)
    assert len(rows(straight_out)) == 8
    straight, resumed = (
        torch.load(f"{root}/version_0/checkpoints/last.ckpt", weights_only=True)["callbacks"]
        for root in ("straight", "out")
    )
    assert resumed["FleetScalars"] == straight["FleetScalars"]
    for name, history in straight["Pictures"].items():
        assert resumed["Pictures"][name]["rounds"] == history["rounds"] == list(range(end))
        torch.testing.assert_close(resumed["Pictures"][name]["values"], history["values"], equal_nan=True)


def test_a_checkpoint_written_by_validation_holds_its_round(config, capsys):
    file = config(
        """\
        trainer:
          check_val_every_n_epoch: 2
          callbacks:
          - class_path: lightning.pytorch.callbacks.ModelCheckpoint
            init_args: {filename: mine, save_on_train_epoch_end: false}
        """
    )
    assert main([*FIT, "--config", file, "--trainer.max_epochs", "3"]) == 0
    saved = torch.load("out/version_0/checkpoints/mine.ckpt", weights_only=True)
    assert saved["global_step"] == 2
    assert saved["callbacks"]["RunSummary"]["totals"]["rounds"] == 2
    assert saved["callbacks"]["Pictures"]["ratio"]["rounds"] == [0, 1]
    assert set(saved["callbacks"]["RunSummary"]["metrics"]) == {"val/accuracy", "val/loss"}


def test_last_and_best_are_those_of_the_newest_run(capsys):
    for _ in range(2):
        assert main([*FIT, "--trainer.max_epochs", "1"]) == 0
    capsys.readouterr()
    assert main([*FIT, "--trainer.max_epochs", "2", "--ckpt_path", "last"]) == 0
    assert "note: --ckpt_path last is out/version_1/checkpoints/last.ckpt" in capsys.readouterr().err
    rounds = [
        torch.load(f"out/version_{version}/checkpoints/last.ckpt", weights_only=True)["fedlight"]["round_idx"]
        for version in (0, 1)
    ]
    assert rounds == [1, 2]
    assert not Path("out/version_2").exists()
    assert main(["test", *FIT[1:3], "--ckpt_path", "best"]) == 0
    assert "note: --ckpt_path best is out/version_1/checkpoints/best.ckpt" in capsys.readouterr().err


def test_a_name_that_stands_for_no_checkpoint_is_refused(refusal):
    assert refusal(*FIT, "--ckpt_path", "last") == (
        "ckpt_path: no run in out has kept a last (version_k/checkpoints/last.ckpt); give the path of a checkpoint, or "
        "the trainer.default_root_dir of the run"
    )
    assert refusal(*FIT, "--ckpt_path", "hpc") == (
        "ckpt_path: fedlight keeps no hpc; give last, best, or the path of a checkpoint"
    )
    assert not Path("out").exists()
