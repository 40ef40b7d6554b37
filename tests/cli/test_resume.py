"""A run that is stopped between two validations and resumed tells the same as one that wasn't."""

from __future__ import annotations

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
