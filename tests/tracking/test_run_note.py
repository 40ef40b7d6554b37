from __future__ import annotations

import json
import sys

import pytest
from tracking.conftest import StubServer

from fedlight.errors import ConfigError
from fedlight.tracking import RunNote
from fedlight.tracking.run_note import close_notes, config_hash, read_note

KEYS = {
    "label", "cell", "seed", "command", "config_hash", "status", "wall_s", "started", "environment",
    "peak_memory_bytes", "error", "progress",
}  # fmt: skip


def test_a_run_notes_who_it_is_and_how_far(make_trainer, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x/fedlight", "fit", "--a", "1", "--ckpt_path", "last.ckpt", "--b"])
    trainer = make_trainer([RunNote("mine", {"fleet": "High"}, "val/accuracy")])
    trainer.fit(StubServer())
    assert read_note(tmp_path)["status"] == "running"
    close_notes(trainer)
    note = json.loads((tmp_path / "run.json").read_text())
    assert set(note) == KEYS
    assert (note["label"], note["cell"], note["status"], note["error"]) == ("mine", {"fleet": "High"}, "done", None)
    assert note["command"] == ["fedlight", "fit", "--a", "1", "--b"]
    assert note["progress"] == {"round": 3, "value": pytest.approx(0.3), "simulated_s": 12.0}
    assert note["environment"]["versions"]["torch"]
    assert note["environment"]["cpus"] >= 1
    assert note["peak_memory_bytes"] > 1e6
    assert note["wall_s"] > 0


def test_an_error_and_an_interruption_are_noted_as_such(make_trainer, tmp_path):
    trainer = make_trainer([RunNote("mine")])
    trainer.fit(StubServer())
    close_notes(trainer, ValueError("two\nlines"))
    assert (read_note(tmp_path)["status"], read_note(tmp_path)["error"]) == ("failed", "two lines")
    trainer = make_trainer([RunNote("mine")])
    trainer.fit(StubServer())
    trainer._signal_connector.received_sigterm = False
    trainer.state.status = type(trainer.state.status).INTERRUPTED
    close_notes(trainer)
    assert read_note(tmp_path)["status"] == "running"


def test_wall_time_and_start_are_those_of_all_attempts(make_trainer, tmp_path):
    first = RunNote("mine")
    trainer = make_trainer([first], max_epochs=1)
    trainer.fit(StubServer())
    first._note |= {"started": "then", "peak_memory_bytes": 10**15}
    first._began_s -= 1000
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = make_trainer([RunNote("mine")], max_epochs=2)
    again.fit(StubServer(), ckpt_path=tmp_path / "last.ckpt")
    close_notes(again)
    note = read_note(tmp_path)
    assert note["wall_s"] > 1000
    assert (note["started"], note["peak_memory_bytes"]) == ("then", 10**15)


@pytest.mark.parametrize(
    ("accuracy", "options", "message"),
    [
        (True, {}, "metric is val/f1, which the runs don't log; validation logs val/accuracy"),
        (False, {}, "metric is val/f1, which the runs don't log; no validation logs anything"),
        (True, {"limit_val_batches": 0}, "no validation logs anything"),
    ],
)
def test_a_metric_that_is_never_logged_ends_the_run_after_its_first_round(make_trainer, accuracy, options, message):
    trainer = make_trainer([RunNote("mine", metric="val/f1")], **options)
    with pytest.raises(ConfigError, match=message):
        trainer.fit(StubServer(accuracy=accuracy))
    assert trainer.global_step == 1


def test_a_metric_may_come_later_than_the_first_round(make_trainer):
    trainer = make_trainer([RunNote("mine", metric="val/accuracy")], check_val_every_n_epoch=2)
    trainer.fit(StubServer())
    assert trainer.current_epoch == 3


def test_the_hash_is_of_what_decides_the_result():
    config = {"seed_everything": 0, "model": {"a": 1}, "data": {}, "trainer": {"max_epochs": 3}, "num_threads": 1}
    same = {
        **config,
        "num_threads": 2,
        "model": {"a": 1, "init_args": {}, "b": None},
        "trainer": {
            "callbacks": [{"class_path": "fedlight.tracking.RunNote", "init_args": {"label": "x"}}],
            "default_root_dir": "elsewhere",
            "max_epochs": 3,
        },
    }
    assert config_hash(config) == config_hash(same)
    stop = {"class_path": "fedlight.tracking.StopAt", "init_args": {"simulated_s": 1.0}}
    for other in ({"seed_everything": 1}, {"model": {"a": 2}}, {"trainer": {"max_epochs": 3, "callbacks": [stop]}}):
        assert config_hash({**config, **other}) != config_hash(config)


def test_a_note_that_cannot_be_read_is_none(tmp_path):
    assert read_note(tmp_path) == {}
    (tmp_path / "run.json").write_text('{"label": ')
    assert read_note(tmp_path) == {}
    (tmp_path / "run.json").write_text("[]")
    assert read_note(tmp_path) == {}
