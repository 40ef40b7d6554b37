"""fedlight compare as its users run it, on tiny runs; processes are forked, so that they needn't import all again."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.backends.backend_agg  # noqa: F401 - forks inherit what is imported
import pandas as pd
import pytest
import torch
import yaml

from fedlight.cli import main
from fedlight.compare import runner

COMPARISON = """\
base: tiny.yaml
set: {test_after_fit: false, trainer.max_epochs: 1, trainer.limit_val_batches: 1}
algorithms: [SynFL, SpeedRatio]
seeds: [0, 1]
targets: [0.05]
jobs: 2
"""

COMPARE = ("compare", "--config", "cmp.yaml", "--out", "cmp")
MEASURED = ("time/wall_s", "wall_s", "peak_memory_bytes")
"""What differs between two runs of one seed."""


class Forked:
    """Stands in for subprocess.Popen: runs ``fedlight`` in a fork of this process."""

    def __init__(self, command, stdout, env, **_):
        self._process = multiprocessing.get_context("fork").Process(target=self._run, args=(command[3:], stdout, env))
        self._process.start()

    @staticmethod
    def _run(arguments, stdout, env):
        for stream in (1, 2):
            os.dup2(stdout.fileno(), stream)
        sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1) for stream in (1, 2))
        os.environ.update(env)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.argv = ["fedlight", *arguments]
        os._exit(main(arguments))

    def poll(self):
        return self._process.exitcode

    def wait(self, timeout=None):
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("fork", timeout)

    def terminate(self):
        self._process.terminate()

    def kill(self):
        self._process.kill()


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(runner, "Popen", Forked)
    monkeypatch.setattr(runner, "POLL_S", 0.05)
    Path("cmp.yaml").write_text(COMPARISON)


def note_of(*parts, out="cmp"):
    return json.loads(Path(out, "runs", *parts, "run.json").read_text())


def results(out="cmp"):
    """What the report is made of, without measured times."""
    frame = pd.read_parquet(Path(out) / "results.parquet")
    frame = frame.loc[~frame["tag"].isin(MEASURED)].drop(columns=["wall_s"])
    runs = pd.read_csv(Path(out) / "runs.csv")
    runs = runs[[name for name in runs if name not in MEASURED and not name.endswith("_wall_s")]]
    by = ["run", "tag", "round"]
    return frame.sort_values(by).reset_index(drop=True), runs.sort_values(["label", "seed"]).reset_index(drop=True)


def assert_same_results(one, other):
    for mine, theirs in zip(results(one), results(other), strict=True):
        pd.testing.assert_frame_equal(mine, theirs)
    for name in ("final.md", "time.md"):
        assert (Path(one) / "tables" / name).read_text() == (Path(other) / "tables" / name).read_text()


def test_from_a_file_to_a_page_and_once_more(capsys):
    assert main(COMPARE) == 0
    out = capsys.readouterr().out
    assert out.count("SynFL, seed ") == out.count("SpeedRatio, seed ") == 2
    assert out.splitlines()[-1] == "report: cmp/report.html"
    page = Path("cmp/report.html").read_text()
    assert "fedlight compare --config cmp.yaml --out cmp" in page
    resolved = yaml.safe_load(Path("cmp/comparison.yaml").read_text())
    assert (resolved["metric"], resolved["targets"], resolved["jobs"]) == ("val/accuracy", [0.05], 2)
    note = note_of("SpeedRatio", "seed_1")
    assert (note["label"], note["cell"], note["seed"], note["status"]) == ("SpeedRatio", {}, 1, "done")
    assert note["command"][:4] == ["fedlight", "fit", "--config", "tiny.yaml"]
    frame, runs = results()
    assert set(frame["run"]) == {f"{label} · seed {seed}" for label in ("SynFL", "SpeedRatio") for seed in (0, 1)}
    assert list(runs["num_rounds"]) == [1, 1, 1, 1]

    # What is done is kept, and a comparison may grow.
    assert main([*COMPARE, "--variants=[{label: Plain, of: SynFL}]", "--seeds=[0, 1]", "--print_commands"]) == 0
    assert [line.split("label=")[1].split()[0] for line in capsys.readouterr().out.splitlines()] == ["Plain", "Plain"]

    # It may not become another one.
    assert main([*COMPARE, "--seeds=[0]"]) == 2
    assert "it has runs/SpeedRatio/seed_1, which this one hasn't" in capsys.readouterr().err
    assert main([*COMPARE, "--set.data.batch_size=5"]) == 2
    assert "cmp is another comparison's: SpeedRatio, seed 0 ran with other settings" in capsys.readouterr().err


@pytest.mark.slow
def test_the_quickstart_runs_as_its_users_run_it(tmp_path):
    """Four algorithms, three seeds, from a cold start to the page: under four minutes on two idle cores."""
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "fedlight.cli", "compare", "--config", "configs/compare/quickstart.yaml"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([*command, "--out", str(tmp_path / "out")], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    runs = pd.read_csv(tmp_path / "out" / "runs.csv")
    assert len(runs) == 12
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Two at a time; processor time, so that a busy machine says the same.
    assert (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 2 < 240
    # SpeedRatio is faster than full models on this fleet, by any seed.
    times = runs.pivot(index="seed", columns="label", values="reached_0.8_s")
    assert (times["SpeedRatio"] < times["SynFL"]).all()


def test_killed_in_the_middle_it_ends_with_the_same_results(capsys):
    long = ("--seeds=[0]", "--stop.rounds=4", "--jobs=1")
    assert main(["compare", "--config", "cmp.yaml", "--out", "straight", *long]) == 0
    arguments = [*COMPARE, *long]
    group = multiprocessing.get_context("fork").Process(target=_in_its_own_group, args=(arguments,))
    group.start()
    last = Path("cmp/runs/SpeedRatio/seed_0/version_0/checkpoints/last.ckpt")
    deadline = time.monotonic() + 120
    while not last.is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(group.pid, signal.SIGKILL)
    group.join()
    assert note_of("SynFL", "seed_0")["status"] == "done"
    assert note_of("SpeedRatio", "seed_0")["status"] == "running"
    assert torch.load(last, weights_only=True)["fedlight"]["round_idx"] < 4
    capsys.readouterr()
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "SynFL, seed 0" in out.splitlines()[0]
    assert "(kept from before)" in out.splitlines()[0]
    assert "begins anew" not in out
    assert "--ckpt_path" not in note_of("SpeedRatio", "seed_0")["command"]
    assert_same_results("straight", "cmp")


def _in_its_own_group(arguments):
    os.setpgid(0, 0)
    main(arguments)


def test_printed_commands_do_what_the_comparison_does(capsys, tmp_path):
    some = ("--seeds=[0]", "--algorithms=[SynFL]", "--axes={model.fleet: [High, ThreeTier]}")
    assert main([*COMPARE, *some, "--print_commands"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert not Path("cmp").exists()
    # The first by a shell, the second as the shell would split it.
    program = tmp_path / "bin" / "fedlight"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m fedlight.cli "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["/bin/sh", "-c", lines[0]], check=True, env={**os.environ, "PATH": path}, capture_output=True)
    assert main([*COMPARE, *some, "--print_commands"]) == 0
    assert capsys.readouterr().out.splitlines() == lines[1:]
    words = shlex.split(lines[1])
    assert words[:2] == ["OMP_NUM_THREADS=1", "fedlight"]
    assert main(words[2:]) == 0
    assert main([*COMPARE, *some]) == 0
    assert capsys.readouterr().out.count("(kept from before)") == 2
    assert main([*COMPARE, *some, "--print_commands"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "fedlight: all 2 runs are done: without --print_commands, the report is written\n"
    assert note_of("SynFL", "fleet=High", "seed_0")["command"] == shlex.split(lines[0])[1:]
    assert len(results()[1]) == 2


def test_a_failing_variant_is_told_and_the_others_are_compared(capsys):
    Path("breaking.py").write_text(
        "import lightning\n"
        "class Net(lightning.LightningModule):\n"
        "    def __init__(self, fails: bool = False):\n"
        "        super().__init__()\n"
        "        import torch\n"
        "        self.example_input_array, self.fails = torch.zeros(2, 1, 8, 8), fails\n"
        "        self.head = torch.nn.Linear(64, 10)\n"
        "    def forward(self, x):\n"
        "        return self.head(x.flatten(1))\n"
        "    def training_step(self, batch, batch_idx):\n"
        "        if self.fails:\n"
        "            raise ValueError('bad luck')\n"
        "        import torch\n"
        "        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])\n"
        "    def validation_step(self, batch, batch_idx):\n"
        "        self.log('val/accuracy', (self(batch[0]).argmax(1) == batch[1]).float().mean())\n"
        "    def configure_optimizers(self):\n"
        "        import torch\n"
        "        return torch.optim.SGD(self.parameters(), lr=0.1)\n"
    )
    own = ("--set.model.client=breaking.Net", "--algorithms=[SynFL]", "--seeds=[0]")
    bad = ("--variants=[{label: Unlucky, of: SynFL, set: {model.client.init_args.fails: true}}]",)
    assert main([*COMPARE, *own, *bad]) == 1
    captured = capsys.readouterr()
    assert "Unlucky, seed 0 failed: fit failed: ValueError: bad luck" in captured.out
    assert captured.err == "fedlight: 1 of 2 runs failed: Unlucky, seed 0\n"
    assert note_of("Unlucky", "seed_0")["status"] == "failed"
    assert note_of("Unlucky", "seed_0")["error"].startswith("fit failed: ValueError: bad luck")
    assert "SynFL" in Path("cmp/tables/final.md").read_text()
    # A metric that no run logs ends it all.
    assert main(["compare", "--config", "cmp.yaml", "--out", "other", *own, "--metric=val/f1"]) == 2
    line = capsys.readouterr().err
    assert line == "fedlight: cmp.yaml: metric is val/f1, which the runs don't log; validation logs val/accuracy\n"


def test_runs_of_a_seed_are_paired(capsys, monkeypatch):
    """Same initial weights, cohorts, order of data and devices, whatever the algorithm."""
    Path("watched.py").write_text(
        "import os, lightning, torch\n"
        "class Net(lightning.LightningModule):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.example_input_array = torch.zeros(2, 1, 8, 8)\n"
        "        self.hidden, self.head = torch.nn.Linear(64, 16), torch.nn.Linear(16, 10)\n"
        "    def forward(self, x):\n"
        "        return self.head(self.hidden(x.flatten(1)).relu())\n"
        "    def training_step(self, batch, batch_idx):\n"
        "        Net.log_batch(batch)\n"
        "        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])\n"
        "    @staticmethod\n"
        "    def log_batch(batch):\n"
        "        with open(os.environ['SEEN'], 'a') as file:\n"
        "            file.write(f'{float(batch[0].double().mul(torch.arange(64.0).view(8, 8)).sum())!r}\\n')\n"
        "    def validation_step(self, batch, batch_idx):\n"
        "        self.log('val/accuracy', (self(batch[0]).argmax(1) == batch[1]).float().mean())\n"
        "    def configure_optimizers(self):\n"
        "        return torch.optim.SGD(self.parameters(), lr=0.1)\n"
    )
    Path("watching.py").write_text(
        "import torch\n"
        "from lightning.pytorch import Callback\n"
        "class Watching(Callback):\n"
        "    def __init__(self, file: str):\n"
        "        self.file, self.cohorts = file, []\n"
        "    def on_train_start(self, trainer, server):\n"
        "        from fedlight.core.types import Work\n"
        "        self.first = {k: v.clone() for k, v in server.client.state_dict().items()}\n"
        "        work = Work(1e9, 10**6, 10**6)\n"
        "        self.devices = [server.fleet.device(c) for c in range(8)]\n"
        "        self.seconds = [server.fleet.timing(c, work, r).total_s for c in range(8) for r in range(3)]\n"
        "    def on_train_epoch_end(self, trainer, server):\n"
        "        self.cohorts.append(sorted(report.client for report in server.last_round.reports))\n"
        "    def on_train_end(self, trainer, server):\n"
        "        names = ('first', 'devices', 'seconds', 'cohorts')\n"
        "        torch.save({name: getattr(self, name) for name in names}, self.file)\n"
    )
    seen, saved = {}, {}
    for label, seed in (("SynFL", 3), ("FedMP", 3), ("SynFL", 4)):
        out, file = f"{label}_{seed}", f"{label}_{seed}.pt"
        monkeypatch.setenv("SEEN", f"{out}.txt")
        some = ("--set.model.client=watched.Net", "--set.model.fleet=High", "--set.data.num_clients=8")
        some += (
            "--stop.rounds=2",
            "--set.model.algorithm.clients_per_round=3",
            f"--algorithms=[{label}]",
            f"--seeds=[{seed}]",
        )
        some += (f"--set.trainer.callbacks=[{{class_path: watching.Watching, init_args: {{file: {file}}}}}]",)
        assert main(["compare", "--config", "cmp.yaml", "--out", out, *some, "--print_commands"]) == 0
        assert main(shlex.split(capsys.readouterr().out)[2:]) == 0
        capsys.readouterr()
        # Times decide in which order clients are trained, so each round's batches are compared as a set.
        seen[out], saved[out] = sorted(Path(f"{out}.txt").read_text().split()), torch.load(file, weights_only=False)
    one, paired, other = (saved[name] for name in ("SynFL_3", "FedMP_3", "SynFL_4"))
    for name, value in one["first"].items():
        assert torch.equal(value, paired["first"][name])
    assert any(not torch.equal(value, other["first"][name]) for name, value in one["first"].items())
    for key in ("cohorts", "devices", "seconds"):
        assert one[key] == paired[key]
        assert one[key] != other[key]
    assert len(one["cohorts"]) == 2
    assert all(len(cohort) == 3 for cohort in one["cohorts"])
    assert seen["SynFL_3"] == seen["FedMP_3"]
    assert seen["SynFL_3"] != seen["SynFL_4"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--config", "cmp.yaml"), "cmp.yaml: missing out; --help lists all options"),
        (
            ("--config", "none.yaml", "--out", "x"),
            "compare: there is no config file {cwd}/none.yaml; check the path af",
        ),
        (("--config", ".", "--out", "x"), "compare: {cwd}/. is no file; give a config file after --config"),
        (
            (*COMPARE[1:], "--algorithms=[{algorithm: FedMP}]"),
            "cmp.yaml: algorithms (Choice): missing label; give it in that entry of the list",
        ),
        (
            (*COMPARE[1:], "--axes={model.fleet: High}"),
            "cmp.yaml: axes: expected list or dict, got High; write [High]",
        ),
        ((*COMPARE[1:], "--base=none.yaml"), "cmp.yaml: base: there is no file none.yaml, nor {cwd}/none.yaml; give a"),
        (
            (*COMPARE[1:], "--algorithms=[FedMPP]"),
            "cmp.yaml: FedMPP: model.algorithm: unknown class FedMPP; did you mean FedMP",
        ),
        (
            (*COMPARE[1:], "--algorithms=[{label: x, algorithm: FedMP, options: {discout: 1}}]"),
            "cmp.yaml: x: model.algorithm (FedMP): unknown key discout; did you mean discount?",
        ),
        (
            (*COMPARE[1:], "--algorithms=[{label: x, algorithm: FedMP, options: {discount: 7}}]"),
            "cmp.yaml: x: model.algorithm (FedMP): discount",
        ),
        (
            (*COMPARE[1:], "--axes={model.fleet: [Hihg]}"),
            "cmp.yaml: SynFL, fleet Hihg: model.fleet: unknown class Hihg; did you mean High?",
        ),
        (
            (*COMPARE[1:], "--set.data.num_client=3"),
            "cmp.yaml: SynFL: unknown option --data.num_client; did you mean --data.num_clients?",
        ),
        ((*COMPARE[1:], "--set.data.num_clients"), "compare: --set.data.num_clients lacks a value; give --set.KEY VAL"),
        ((*COMPARE[1:], "--stop.rounds=0"), "cmp.yaml: stop.rounds is 0; give 1 or more"),
        ((*COMPARE[1:], "--seeds=[a]"), "cmp.yaml: seeds: expected int, got a"),
        ((*COMPARE[1:], "--seed=[1]"), "cmp.yaml: unknown option --seed; did you mean --seeds?"),
        ((*COMPARE[1:], "--baseline=FedAvg"), "cmp.yaml: baseline is FedAvg, which is no label of algorithms or varia"),
        (("--config", "cmp.yaml", "--out", "tiny.yaml"), "--out tiny.yaml is a file; choose a folder"),
        (("--config", "cmp.yaml", "--out", "."), "--out . holds other files (cmp.yaml, tiny.yaml) and no comparison.y"),
    ],
)
def test_refusals(refusal, arguments, line, tmp_path):
    assert refusal("compare", *arguments).startswith(line.format(cwd=tmp_path))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("algorithm: [SynFL]\n", "cmp.yaml: unknown key algorithm; did you mean algorithms?"),
        ("variants: [{labl: x}]\n", "cmp.yaml: variants (Variant): unknown key labl; did you mean label?"),
        ("stop: 3\n", "cmp.yaml: stop is 3; say at what: target, simulated_s or rounds (stop: {rounds: 50})"),
        ("algorithms: [\n", "cmp.yaml: the config file is no valid YAML"),
        ("seeds: [0]\n", "cmp.yaml: missing base; --help lists all options"),
    ],
)
def test_mistakes_in_the_file(refusal, text, line):
    Path("cmp.yaml").write_text(("" if line.endswith("all options") else "base: tiny.yaml\n") + text)
    assert refusal(*COMPARE).startswith(line)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"- base: tiny.yaml\n", "the config file holds no keys; write lines of KEY: VALUE into it"),
        (b"", "the config file is empty; write lines of KEY: VALUE into it"),
        (b"\xff\xfe\x00", "the config file is no text"),
    ],
)
def test_files_that_are_no_config(refusal, content, line):
    Path("odd.yaml").write_bytes(content)
    assert refusal("compare", "--config", "odd.yaml", "--out", "x").startswith(f"odd.yaml: {line}")
    assert refusal(*COMPARE, "--base=odd.yaml").startswith("cmp.yaml: base: odd.yaml ")
