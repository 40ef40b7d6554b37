"""The runner with programs that only pretend to train: what it keeps, resumes, reports and ends."""

from __future__ import annotations

import sys
import textwrap
import time

import pytest
import torch

from fedlight.compare import PlannedRun, Ready, Runner, check_folder, find_start, is_done, lock
from fedlight.compare import runner as runner_module
from fedlight.compare.runner import Watcher
from fedlight.errors import ConfigError
from fedlight.tracking.run_note import read_note, write_note

PROGRAM = """\
import json, sys, time
from pathlib import Path
folder, kind, config_hash = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
note = {"status": "running", "config_hash": config_hash, "attempt": len(sys.argv)}
(folder / "run.json").write_text(json.dumps(note))
if kind == "fails":
    print("some noise")
    print("fedlight: it broke; mend it", file=sys.stderr)
    print("more noise")
    sys.exit(2)
if kind == "dies":
    import os
    os.kill(os.getpid(), 9)
if kind == "blind":
    print("fedlight: metric is val/f1, which the runs don't log; validation logs val/accuracy", file=sys.stderr)
    sys.exit(2)
if kind == "hangs":
    time.sleep(60)
if kind == "leaves":
    sys.exit(0)
if kind == "other":
    note["config_hash"] = "another"
(folder / "run.json").write_text(json.dumps({**note, "status": "done"}))
"""


@pytest.fixture(autouse=True)
def _a_program_that_pretends(tmp_path, monkeypatch):
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM))

    def command(ready, start):
        more = [] if start.ckpt_path is None else [str(start.ckpt_path)]
        return [sys.executable, str(tmp_path / "program.py"), str(ready.run.folder), *ready.run.arguments, "h", *more]

    monkeypatch.setattr(runner_module, "_command", command)
    monkeypatch.setattr(runner_module, "POLL_S", 0.02)


@pytest.fixture
def ready(tmp_path):
    def make(label, kind="works", seed=0, max_rounds=5):
        run = PlannedRun(label, {}, seed, tmp_path / "out" / "runs" / label / f"seed_{seed}", (kind,), 1)
        return Ready(run, "h", max_rounds)

    return make


def run_all(*runs, jobs=2):
    said = []
    runner = Runner(runs, jobs)
    runner.run(Watcher(lambda: None, said.append))
    return [one.status for one in runner.tracked], said


def checkpoint(folder, rounds):
    path = folder / "version_0" / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    torch.save({"fedlight": {"round_idx": rounds}}, path)
    return path


def test_what_is_done_is_kept_and_the_rest_is_run(ready):
    runs = [ready("a"), ready("b"), ready("c")]
    write_note(runs[0].run.folder, {"status": "done", "config_hash": "h", "mine": 1})
    assert run_all(*runs) == (["kept", "done", "done"], [])
    assert read_note(runs[0].run.folder)["mine"] == 1
    assert run_all(*runs) == (["kept", "kept", "kept"], [])


def test_a_failure_is_told_by_its_last_word_and_stops_nobody(ready):
    runs = [ready("a", "fails"), ready("b", "dies"), ready("c", "leaves"), ready("d", "other"), ready("e")]
    statuses, said = run_all(*runs, jobs=1)
    assert statuses == ["failed", "failed", "failed", "failed", "done"]
    log = runs[0].run.folder / "log.txt"
    assert said[0] == f"a, seed 0 failed: it broke; mend it (its output: {log})"
    assert said[1].startswith("b, seed 0 failed: ended by signal 9 (out of memory?)")
    assert said[2].startswith("c, seed 0 failed: ended with exit code 0")
    assert said[3].startswith("d, seed 0 failed: the base config was changed while the comparison ran")
    note = read_note(runs[0].run.folder)
    assert (note["status"], note["error"], note["label"], note["seed"]) == ("failed", "it broke; mend it", "a", 0)
    # It is tried again the next time.
    assert [find_start(runs[0]).ckpt_path, is_done(runs[0])] == [None, False]


def test_an_interrupted_run_goes_on_from_its_newest_checkpoint(ready):
    one = ready("a")
    path = checkpoint(one.run.folder, 3)
    assert run_all(one) == (["done"], [])
    assert path.exists()
    assert read_note(one.run.folder)["attempt"] == 5


@pytest.mark.parametrize("kind", ["broken", "foreign", "ended"])
def test_a_checkpoint_that_cannot_be_gone_on_from_is_told_and_removed(ready, kind):
    one = ready("a")
    path = checkpoint(one.run.folder, 5)
    reason = "it was ended between its last round and its last lines"
    if kind == "broken":
        path.write_bytes(path.read_bytes()[:200])
        reason = f"its checkpoint: {path} is no checkpoint of tensors and plain values"
    if kind == "foreign":
        torch.save({"state_dict": {}}, path)
        reason = f"its checkpoint: {path} is no checkpoint of fedlight"
    statuses, (line,) = run_all(one)
    assert statuses == ["done"]
    assert line.startswith(f"a, seed 0 begins anew: {reason}")
    assert not path.exists()


def test_a_metric_that_is_never_logged_ends_everything(ready):
    runs = [ready("a", "blind"), ready("b", "hangs"), ready("c")]
    began = time.monotonic()
    with pytest.raises(ConfigError, match="metric is val/f1, which the runs don't log"):
        run_all(*runs)
    assert time.monotonic() - began < 15
    assert not runs[2].run.folder.exists()
    assert not is_done(runs[1])


def test_an_interruption_ends_the_processes(ready):
    runner = Runner([ready("a", "hangs"), ready("b", "hangs")], 2)
    processes = []

    def interrupt():
        if len(processes) < 2:
            processes[:] = [process for process, _ in runner._processes.values()]
        else:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.run(Watcher(interrupt, print))
    assert len(processes) == 2
    assert all(process.poll() is not None for process in processes)


def test_a_folder_of_something_else_is_refused(ready, tmp_path):
    out = tmp_path / "out"
    runs = [ready("a"), ready("b")]
    check_folder(out, runs)
    out.mkdir()
    (out / "thesis.tex").write_text("")
    with pytest.raises(ConfigError, match=r"holds other files \(thesis.tex\) and no comparison.yaml; choose another"):
        check_folder(out, runs)
    (out / "comparison.yaml").write_text("")
    check_folder(out, runs)
    with pytest.raises(ConfigError, match=r"thesis\.tex is a file; choose a folder"):
        check_folder(out / "thesis.tex", runs)


def test_a_folder_of_another_comparison_is_refused_one_that_grows_is_not(ready, tmp_path):
    out = tmp_path / "out"
    runs = [ready("a"), ready("b")]
    run_all(*runs)
    check_folder(out, [*runs, ready("c"), ready("a", seed=1)])
    with pytest.raises(ConfigError, match="it has runs/b/seed_0, which this one hasn't; choose another folder, or rem"):
        check_folder(out, runs[:1])
    other = Ready(runs[0].run, "another", 5)
    with pytest.raises(ConfigError, match=r"is another comparison's: a, seed 0 ran with other settings \(see config"):
        check_folder(out, [other, runs[1]])


def test_two_comparisons_do_not_work_in_one_folder(tmp_path):
    refused = pytest.raises(ConfigError, match="another fedlight compare, or a run that it left behind")
    with lock(tmp_path), refused, lock(tmp_path):
        pass
    with lock(tmp_path) as held:
        assert held > 2
