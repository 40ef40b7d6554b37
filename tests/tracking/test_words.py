from __future__ import annotations

from dataclasses import replace

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from fedlight.core.types import Job, Timing, Work
from fedlight.errors import ConfigError
from fedlight.tracking import RoundProgress, RunSummary
from fedlight.tracking.format import duration, percent, quantity
from fedlight.tracking.watched import better, choose_metric


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.44, "440 ms"),
        (4.21, "4.2 s"),
        (59.6, "1 min 0 s"),
        (42, "42 s"),
        (185, "3 min 5 s"),
        (7800, "2 h 10 min"),
        (48 * 3600, "48 h 0 min"),
        (960 * 3600, "40.0 days"),
        (1e9, "11,574 days"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(12, "B", "12 B"), (1_626_442, "", "1.63 M"), (999.6, "B", "1 kB"), (2.5e12, "MAC", "2.5 TMAC"), (0, "B", "0 B")],
)
def test_quantity(value, unit, text):
    assert quantity(value, unit) == text


def test_percent():
    assert percent(0.126) == "13 %"


def test_without_a_terminal_there_are_about_ten_lines(make_trainer, stub, capsys):
    make_trainer([RoundProgress()], max_epochs=30).fit(stub())
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("round")]
    # Round 1 and every third; the shares that 1, 2 and 4 s of work leave of 4 s are 3/4, 1/2 and 0.
    assert len(lines) == 11
    assert lines[0] == "round  1/30 · val accuracy 0.100 · simulated 4.0 s · ratio 0.25 · waiting 42 %"
    assert lines[-1].startswith("round 30/30 · val accuracy 3.000 · simulated 2 min 0 s")


def test_rejected_clients_are_shown(make_trainer, stub, capsys):
    make_trainer([RoundProgress(every_n_rounds=1), RunSummary()], max_epochs=2).fit(stub(rejected=1))
    out = capsys.readouterr().out
    assert "waiting 42 % · 1 rejected" in out
    assert "2 (not finite; clients 1)" in out


def test_in_a_terminal_the_line_is_live(make_trainer, stub, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    make_trainer([RoundProgress()], max_epochs=2).fit(stub(accuracy=False))
    out = capsys.readouterr().out
    assert "\x1b[" in out
    assert "simulated 8.0 s" in out


def table_text(capsys):
    return [line.strip("│ \n") for line in capsys.readouterr().out.splitlines()]


def test_the_table_adds_up(make_trainer, stub, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saving = ModelCheckpoint(filename="last", enable_version_counter=False)
    make_trainer([RunSummary(), saving], enable_checkpointing=True).fit(stub())
    rows = dict(line.split("│") for line in table_text(capsys) if "│" in line)
    rows = {name.strip(): value.strip() for name, value in rows.items()}
    assert rows["rounds"] == "3"
    assert rows["val accuracy"] == "30.00 %"
    assert rows["simulated time"] == "12 s (clients wait 42 % of it)"
    assert rows["sent by clients"] == "4.5 kB"
    assert rows["sent to clients"] == "9 kB"
    assert rows["training work"] == "9 MMAC"
    assert rows["updates rejected"] == "0"
    assert rows["last checkpoint"] == "checkpoints/last.ckpt"


def test_the_table_can_wait_for_the_test(make_trainer, stub, capsys):
    trainer, module = make_trainer([RunSummary(after_test=True)]), stub()
    trainer.fit(module)
    assert "Run finished" not in capsys.readouterr().out
    trainer.test(module, verbose=False)
    out = capsys.readouterr().out
    assert "test accuracy" in out
    assert "87.50 %" in out


def test_a_test_that_breaks_takes_no_table_away(make_trainer, stub, capsys, monkeypatch):
    trainer, module = make_trainer([RunSummary(after_test=True)]), stub()
    trainer.fit(module)
    monkeypatch.setattr(module, "test_step", lambda batch, batch_idx: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trainer.test(module, verbose=False)
    out = capsys.readouterr().out
    assert out.count("Run finished") == 1
    assert "val accuracy" in out


def test_the_table_of_a_resumed_run_counts_all_rounds(make_trainer, stub, capsys, tmp_path):
    first = make_trainer([RunSummary()], max_epochs=2)
    first.fit(stub())
    first.save_checkpoint(tmp_path / "kept.ckpt")
    capsys.readouterr()
    make_trainer([RunSummary()], max_epochs=3).fit(stub(), ckpt_path=tmp_path / "kept.ckpt", weights_only=True)
    assert "4.5 kB" in capsys.readouterr().out


class Interrupt(pl.Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 2:
            raise KeyboardInterrupt


def test_an_interrupted_run_says_how_far_it_came_and_how_to_go_on(make_trainer, stub, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saving = ModelCheckpoint(filename="last", enable_version_counter=False)
    trainer = make_trainer([RunSummary(), Interrupt(), saving], max_epochs=9, enable_checkpointing=True)
    with pytest.raises(SystemExit):
        trainer.fit(stub())
    out = capsys.readouterr().out
    assert "Run interrupted" in out
    assert "│ rounds           │ 2 " in out
    assert "--ckpt_path checkpoints/last.ckpt goes on from here" in " ".join(out.split())


class Plain(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self):
        return DataLoader(torch.zeros(1, 1))


def test_a_module_that_is_no_server_is_refused(make_trainer):
    with pytest.raises(ConfigError, match="follow a Server, the Trainer runs a Plain; wrap it"):
        make_trainer([RunSummary()]).fit(Plain())


def test_no_line_at_all_is_refused():
    with pytest.raises(ConfigError, match="every_n_rounds=0 prints no line"):
        RoundProgress(every_n_rounds=0)


def test_a_summary_of_an_older_version_goes_on(make_trainer, stub, capsys):
    summary = RunSummary()
    summary.load_state_dict({"totals": {"rounds": 1.0, "uplink_bytes": 1500.0}})
    make_trainer([summary], max_epochs=1).fit(stub())
    assert "3 kB" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("logged", "chosen"),
    [
        (["train/loss", "val/loss", "val/f1", "val/accuracy"], "val/accuracy"),
        (["val/loss", "val/f1_step", "val/f1_epoch", "val/f1", "val/mae"], "val/f1"),
        (["val/aux_loss", "val/loss"], "val/loss"),
        (["val_acc"], "val_acc"),
        (["train/loss"], None),
    ],
)
def test_which_metric_is_followed(logged, chosen):
    assert choose_metric(logged) == chosen


@pytest.mark.parametrize(
    ("name", "mode"),
    [("val/f1", "max"), ("val/rmse", "min"), ("val/perplexity", "min"), ("val_loss", "min"), ("val/iou", "max")],
)
def test_which_way_a_metric_gets_better(name, mode):
    assert better(name) == mode


def test_the_table_tells_what_was_lost_and_how_late_updates_were(make_trainer, stub, capsys, record):
    lost = Job(1, 0, 0.5, None, Work(1.0, 1, 1), Timing(1.0, 2.0, 1.0), 0.0, lost_s=1.0, cause="left", energy_j=400.0)

    class Losing(stub):
        def training_step(self, batch, batch_idx):
            super().training_step(batch, batch_idx)
            reports = [replace(report, staleness=1, energy_j=1000.0) for report in self.last_round.reports]
            self.last_round = replace(self.last_round, reports=reports, lost=[lost])

    first = make_trainer([RunSummary()], max_epochs=2)
    first.fit(Losing())
    first.save_checkpoint(first.default_root_dir + "/kept.ckpt")
    capsys.readouterr()
    again = make_trainer([RunSummary()], max_epochs=3)
    again.fit(Losing(), ckpt_path=first.default_root_dir + "/kept.ckpt", weights_only=True)
    out = capsys.readouterr().out
    # nine updates of 1 kJ, and three times a quarter of 400 J
    assert "9.3 kJ (3 % for lost jobs)" in out
    assert "3 of 12 (3 left)" in out
    assert "1.0 versions" in out
