"""Every mistake gets one line on stderr with the way out, exit code 2, and no traceback."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch

from fedlight.cli import entry, main
from fedlight.cli.run import FedlightCLI
from fedlight.errors import DataError

TINY = ("--config", "tiny.yaml")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ("fitt",),
            "unknown subcommand fitt; use fit, validate, test, export, profile, partition, compare or report "
            "(fedlight --help)",
        ),
        (("fit", "--config", "none.yaml"), "there is no config file {cwd}/none.yaml; check the path after --config"),
        (
            ("fit", *TINY, "--model.algorithm", "FedAvgg"),
            "model.algorithm: unknown class FedAvgg; did you mean FedAvg?",
        ),
        (
            ("fit", *TINY, "--data.partition", "DirichletByClien"),
            "data.partition: unknown class DirichletByClien; did you mean DirichletByClient or DirichletByClass?",
        ),
        (
            ("fit", *TINY, "--data.num_clients", "x3"),
            "data.num_clients: expected int, got x3",
        ),
        (
            ("fit", *TINY, "--data.validate_on", "tst"),
            "data.validate_on: expected one of 'holdout', 'test', got tst",
        ),
        (("fit", *TINY, "--trainer.max_epochs", "ten"), "trainer.max_epochs: expected int, got ten"),
        (("fit", *TINY, "--model.protects", "x"), "unknown option --model.protects; did you mean --model.protect?"),
        (
            ("fit", *TINY, "--data.num_client", "3"),
            "unknown option --data.num_client; did you mean --data.num_clients?",
        ),
        (
            ("fit", *TINY, "--data.min_samples", "0"),
            "unknown option --data.min_samples; did you mean --data.partition.min_samples?",
        ),
        (("fit", "tiny.yaml"), "unexpected tiny.yaml; did you mean --config tiny.yaml?"),
        (("fit", *TINY, "more"), "unexpected more; options begin with --, and --help lists all"),
        (
            ("fit", *TINY, "--model.protect", "a"),
            "model.protect: expected list, got a; --model.protect+=a adds one to it",
        ),
        (
            ("fit", *TINY, "--model.init_weights", "tiny.yaml"),
            "model.init_weights: tiny.yaml is no checkpoint of tensors and plain values; give one that fedlight fit "
            "has written, or what torch.save(module.state_dict(), path) has",
        ),
        (
            ("fit", *TINY, "--model.protect+=encoder"),
            "model.protect: 'encoder' matches no layer: use names as in named_modules()",
        ),
        (("fit", *TINY, "--modle.protect", "3"), "unknown option --modle.protect; did you mean --model.protect?"),
        (
            ("fit", *TINY, "--model.fleet.nois", "3"),
            "model.fleet (ThreeTier): unknown key nois; did you mean noise?",
        ),
        (
            ("fit", *TINY, "--model.algorithm.local.epochs", "3"),
            "model.algorithm.local.epochs is set, but model.algorithm.local has no class yet; put "
            "--model.algorithm.local CLASS before it",
        ),
        (
            ("fit", *TINY, "--model.algorithm.schedule", "FixedFraction", "--model.algorithm.schedule.late", "maybe"),
            "model.algorithm.schedule.late (FixedFraction): expected one of 'drop', 'keep', 'cache', got maybe",
        ),
        (
            ("fit", *TINY, "--data.corruption", "LabelNoise"),
            "data.corruption: expected list, got LabelNoise; --data.corruption+=LabelNoise adds one to it",
        ),
        (
            ("fit", *TINY, "--model.algorithm.schedule", "FixedFraction", "--model.algorithm.schedule.fraction", "2"),
            "model.algorithm.schedule (FixedFraction): fraction=2.0 of FixedFraction is outside (0, 1]: it is what a "
            "round waits for",
        ),
        (
            ("fit", *TINY, "--model.client", "fedlight.models.ConvNett"),
            "model.client: module fedlight.models has no ConvNett; did you mean ConvNet?",
        ),
        (
            ("fit", *TINY, "--model.client", "my_model.Net"),
            "model.client: can't import my_model.Net: there is no module my_model; run fedlight from the folder that "
            "holds it, or add that folder to PYTHONPATH",
        ),
        (
            ("fit", *TINY, "--model.client", "fedlight.models.MLPRegressor"),
            "model.client (MLPRegressor): missing in_features; give it under init_args",
        ),
        (
            ("fit", *TINY, "--seed_everything", "true"),
            "seed_everything is true; give a number, every draw of a run derives from it",
        ),
        (
            ("fit", *TINY, "--num_threads", "0"),
            "num_threads is 0; give 1 or more, or null for as many as there are cores",
        ),
        (
            ("fit", *TINY, "--ckpt_path", "none.ckpt"),
            "ckpt_path: there is no file none.ckpt; a run keeps its own as <logs>/checkpoints/last.ckpt",
        ),
        (
            ("fit", *TINY, "--trainer.default_root_dir", "tiny.yaml/below"),
            "trainer.default_root_dir: can't write to tiny.yaml/below (Not a directory); choose a folder of yours with "
            "--trainer.default_root_dir",
        ),
        (
            ("export", "--ckpt_path", "none.ckpt", "--ratio", "0.5", "--out", "x"),
            "--ckpt_path: there is no file none.ckpt; a run keeps its own as <logs>/checkpoints/last.ckpt",
        ),
        (
            ("export", "--ckpt_path", "tiny.yaml", "--ratio", "0.5", "--out", "x"),
            "--ckpt_path: tiny.yaml is no checkpoint of tensors and plain values; give one that fedlight fit has "
            "written",
        ),
        (
            ("export", "--ckpt_path", "x", "--out", "x"),
            "export: give either --ratio R (a submodel of that size) or --client ID (that client's own)",
        ),
        (
            ("export", "--ckpt_path", "x", "--out", "x", "--ratio", "1"),
            "export: --ratio 1 is outside [0, 1): it is the fraction removed",
        ),
        (("export", "--ratio", "0.5", "--out", "x"), "export: missing ckpt_path; --help lists all options"),
        (("export", "--client", "me", "--out", "x"), "export: client: expected int, got me"),
        (
            ("profile", *TINY, "--ratios", "0", "1.5"),
            "profile: --ratios 1.5 is outside [0, 1): it is the fraction removed",
        ),
        (
            ("report", "--out", "x", "--targets", ".7", "0.75", "runs/fedavg"),
            "report: --targets takes numbers, got runs/fedavg; folders come before --targets, or after a --",
        ),
        (("profile", *TINY, "--steps", "0"), "profile: --steps 0 measures nothing; give 1 or more"),
    ],
)
def test_one_line(refusal, arguments, line, tmp_path):
    assert refusal(*arguments) == line.format(cwd=tmp_path)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("fleet.devices", "Hihg"), "model.fleet.devices: unknown class Hihg; did you mean High?"),
        (
            ("fleet.devices", "High", "fleet.availability", "Dayly"),
            "model.fleet.availability: unknown class Dayly; did you mean Daily?",
        ),
        (
            ("fleet.devices", "DrawnFleet", "fleet.devices.macs_per_s", "Zipff"),
            "model.fleet.devices.macs_per_s: unknown class Zipff; did you mean Zipf?",
        ),
    ],
)
def test_a_class_within_a_class_is_suggested_too(refusal, options, line):
    words = [f"--model.{word}" if "." in word else word for word in options]
    assert refusal("fit", *TINY, "--model.fleet", "ChangingFleet", *words) == line


def test_a_class_in_a_list_within_a_class_is_suggested_too(refusal, config):
    file = config(
        """\
        model:
          fleet:
            class_path: ChangingFleet
            init_args:
              devices: High
              availability: [{class_path: Dayly}]
        """
    )
    line = refusal("fit", *TINY, "--config", file)
    assert line == "model.fleet.availability: unknown class Dayly; did you mean Daily?"


def test_an_entry_of_a_list_takes_no_init_args(refusal, config):
    file = config(
        """\
        model:
          fleet:
            class_path: DeviceFleet
            init_args:
              classes: [{name: a, share: 1, macs_per_s: 1.0e+9, down_bits_per_s: 1.0e+6}]
        """
    )
    line = refusal("fit", *TINY, "--config", file)
    assert line == "model.fleet.classes (DeviceClass): missing up_bits_per_s; give it in that entry of the list"


def test_more_results_than_the_cohort_can_bring(refusal):
    line = refusal(
        "fit", *TINY, *("--model.algorithm.schedule", "Deadline", "--model.algorithm.schedule.min_count", "4")
    )
    assert line == (
        "model.algorithm.schedule.min_count: 4 is larger than the cohort of 3, so no round could reach it: lower it to "
        "3 or less, or raise clients_per_round"
    )


def test_a_deadline_that_nobody_can_meet(refusal):
    options = ("--model.algorithm.schedule.deadline_s", "1e-6", "--model.algorithm.schedule.max_doublings", "3")
    line = refusal("fit", *TINY, "--model.algorithm.schedule", "Deadline", *options)
    start = "model.algorithm.schedule.deadline_s: nobody can meet 1e-06 s (with max_doublings=3: 8e-06 s): the quickest"
    assert line.startswith(start)


def test_unknown_key_in_a_config(refusal, config):
    file = config("modell: {client: 1}\n")
    assert refusal("fit", "--config", file) == "unknown key modell.client; did you mean model.client?"


def test_a_number_is_no_class(refusal, config):
    line = refusal("fit", "--config", config("model: {client: 1}\n"))
    assert line == "model.client: expected a class (its name, or class_path and init_args), got 1"


def test_unknown_key_of_a_nested_part(refusal, config):
    file = config(
        """\
        model:
          algorithm:
            class_path: FedAvg
            init_args:
              local: {class_path: LeanLoop, init_args: {epoch: 3}}
        """
    )
    line = refusal("fit", *TINY, "--config", file)
    assert line == "model.algorithm.local (LeanLoop): unknown key epoch; did you mean epochs?"


def test_missing_settings_are_named(refusal, config):
    line = refusal("fit", "--config", config("model: {fleet: ThreeTier}\n"))
    assert line.startswith(
        "missing model.client, model.algorithm, data.dataset, data.num_clients; give a --config FILE"
    )


def test_broken_yaml(refusal, config):
    assert refusal("fit", "--config", config("model: [\n")).startswith(
        "the config file is no valid YAML: while parsing"
    )


def test_a_file_of_tensors_is_no_checkpoint(refusal, tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "plain.ckpt")
    line = refusal("export", "--ckpt_path", "plain.ckpt", "--ratio", "0.5", "--out", "x")
    assert line == "--ckpt_path: plain.ckpt is no checkpoint of fedlight; give one that fedlight fit has written"


LAYERS = """\
import lightning, torch
class Net(lightning.LightningModule):
    def __init__(self, size: int = 64):
        super().__init__()
        self.example_input_array = torch.zeros(2, 1, size)
        self.mix = torch.nn.MultiheadAttention(64, 2)
        self.head = torch.nn.Linear(64, 10)
    def forward(self, x):
        x = x.flatten(1)[None]
        return self.head(self.mix(x, x, x)[0][0])
    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])
    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.training_step(batch, batch_idx))
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
"""


def test_a_refused_model_is_mended_by_the_option_that_the_message_names(refusal):
    Path("mixing.py").write_text(LAYERS)
    own = ("fit", *TINY, "--model.client", "mixing.Net")
    line = refusal(*own)
    assert line.startswith("layer 'mix' is an nn.MultiheadAttention")
    (option,) = re.findall(r"--\S+", line)
    assert option == """--model.protect+="['mix']\""""
    assert main([*own, shlex.split(option)[0]]) == 0


def test_example_inputs_that_the_forward_refuses(refusal):
    Path("small.py").write_text(LAYERS)
    line = refusal("fit", *TINY, "--model.client", "small.Net", "--model.client.size", "9", "--model.protect+=mix")
    assert line.startswith("Net.forward fails on the example inputs (")
    assert "give inputs that it accepts (in a LightningModule: self.example_input_array)" in line


def test_an_accelerator_that_is_not_there(refusal, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert refusal("fit", *TINY, "--trainer.accelerator", "gpu") == (
        "the Trainer refuses its settings: No supported gpu backend found!; set trainer.accelerator to auto (a GPU if "
        "there is one) or cpu"
    )


def test_one_of_several_processes_tells_what_all_meet(capsys, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert main(["fit", *TINY, "--num_threads", "0"]) == 2
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert main(["fit", *TINY, "--num_threads", "0"]) == 2
    assert capsys.readouterr().err.count("num_threads is 0") == 1


def test_what_one_client_brings_up_is_told_by_its_process(capsys, monkeypatch):
    def run_client():
        raise DataError("client 3 has no training examples")

    def fail(_):
        run_client()

    monkeypatch.setattr(entry, "_dispatch", fail)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert main(["fit", *TINY]) == 2
    assert capsys.readouterr().err == "fedlight: client 3 has no training examples\n"


def test_a_module_that_exits_with_a_text_fails_with_it(capsys):
    Path("leaving.py").write_text("import sys\nsys.exit('the licence has run out')\n")
    assert main(["fit", *TINY, "--model.client", "leaving.Net"]) == 1
    assert capsys.readouterr().err == "fedlight: the licence has run out\n"


@pytest.mark.parametrize(("module", "base"), [("plain_points", ""), ("generic_points", "[tuple[torch.Tensor, int]]")])
def test_datasets_of_the_users_own_take_arguments(config, refusal, module, base, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    Path(f"{module}.py").write_text(
        f"import torch\nclass Points(torch.utils.data.Dataset{base}):\n"
        "    def __init__(self, size: int = 4):\n"
        "        self.targets = [index % 2 for index in range(size)]\n"
        "    def __len__(self):\n"
        "        return len(self.targets)\n"
        "    def __getitem__(self, index):\n"
        "        return torch.zeros(1, 8, 8), self.targets[index]\n"
    )
    file = config(
        f"""\
        data:
          dataset:
            class_path: MapDataset
            init_args:
              train: {{class_path: {module}.Points, init_args: {{size: 40}}}}
              test: {module}.Points
        """
    )
    data = FedlightCLI(["--config", "tiny.yaml", "--config", file], run=False).datamodule
    assert (len(data.dataset.train), len(data.dataset.test)) == (40, 4)
    assert data.num_examples.sum() == 36
    Path("wrong.yaml").write_text(Path(file).read_text().replace("size: 40", "sise: 40"))
    line = refusal("fit", *TINY, "--config", "wrong.yaml")
    assert line == "data.dataset.train (Points): unknown key sise; did you mean size?"
