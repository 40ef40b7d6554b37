"""Every mistake gets one line on stderr with the way out, exit code 2, and no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fedlight.cli import main
from fedlight.cli.run import FedlightCLI

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
