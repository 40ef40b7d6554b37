"""Every algorithm runs by its name alone, and shows what it is made of."""

from __future__ import annotations

import inspect
import sys
import textwrap
from pathlib import Path

import pytest
import torch
import yaml

import fedlight.algorithms
from fedlight.cli import main

CONFIG = str(Path(__file__).resolve().parents[2] / "configs/fashion_mnist.yaml")
# Digits and the network for them in place of a download; nothing that has to do with the algorithm.
TOY = (
    "--data.dataset=Digits", "--data.max_train_examples=160", "--data.batch_size=4", "--model.client.variant=digits",
    "--trainer.max_epochs=3", "--trainer.accelerator=cpu", "--trainer.default_root_dir=out",
)  # fmt: skip

every_name = pytest.mark.parametrize("name", fedlight.algorithms.__all__)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch, blank_pictures):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))


@every_name
def test_runs_without_further_keys(name, capsys):
    code = main(["fit", "--config", CONFIG, "--model.algorithm", name, *TOY])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    assert captured.err == ""
    assert "round 3/3" in captured.out
    checkpoint = torch.load("out/version_0/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["fedlight"]["round_idx"] == 3
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())


def printed(capsys, *arguments):
    """What --print_config prints: the config, and what its comments say."""
    assert main(["fit", "--config", CONFIG, *arguments, "--print_config"]) == 0
    out = capsys.readouterr().out
    comments = [line.removeprefix("#") for line in out.splitlines() if line.startswith("#   ")]
    return yaml.safe_load(out), textwrap.dedent("\n".join(comments))


@every_name
def test_shows_every_slot_and_constant(name, capsys):
    config, composition = printed(capsys, "--model.algorithm", name)
    kind = getattr(fedlight.algorithms, name)
    options = list(inspect.signature(kind).parameters)
    assert list(config["model"]["algorithm"]["init_args"]) == options
    made = yaml.safe_load(composition)
    slots = kind().slots()
    assert {slot: part["class_path"] for slot, part in made["init_args"].items()} == {
        slot: type(part).__name__ for slot, part in slots.items()
    }
    for slot, part in slots.items():
        constants = [] if type(part).__init__ is object.__init__ else list(inspect.signature(type(part)).parameters)
        assert list(made["init_args"][slot].get("init_args", {})) == constants
    # What is shown is a configuration of the same algorithm.
    Path("own.yaml").write_text(yaml.safe_dump({"model": {"algorithm": made}}))
    assert printed(capsys, "--config", "own.yaml")[1] == composition


def test_constants_shown_are_those_given(capsys):
    given = ("--model.algorithm", "FedMP", "--model.algorithm.discount", "0.9", "--model.algorithm.local", "LeanLoop")
    made = yaml.safe_load(printed(capsys, *given, "--model.algorithm.local.epochs", "7")[1])["init_args"]
    assert made["ratio"]["init_args"]["bandit"] == {
        "class_path": "EUCB",
        "init_args": {"low": 0.0, "high": 0.8, "discount": 0.9, "granularity": 0.05, "bonus_scale": 1.0, "by": "round"},
    }
    assert made["local"]["init_args"]["epochs"] == 7


SWITCHES = {
    "--A.pace ScheduledPace": ("ratio", "pace", "ScheduledPace"),
    "--A.pace BanditPace": ("ratio", "pace", "BanditPace"),
    "--A.pace ConstantPace": ("ratio", "pace", "ConstantPace"),
    "--A.aligned false": ("ratio", None, "Unaligned"),
    "--A.cost_model known": ("ratio", "cost_model", "known"),
    "--A.aggregation ResidualRecovery": ("aggregation", None, "ResidualRecovery"),
    "--A.importance PrefixOrder": ("importance", None, "PrefixOrder"),
    "--A.importance MixedImportance": ("importance", None, "MixedImportance"),
    "--A.importance Magnitude --A.importance.p 1 --A.importance.reduction first": ("importance", "reduction", "first"),
    "--A.contribution CosineGradient": ("contribution", None, "CosineGradient"),
    "--A.schedule Synchronous --A.schedule.clients_per_round 7": ("schedule", "clients_per_round", 7),
}


@pytest.mark.parametrize("switch", SWITCHES)
def test_every_module_of_fedpace_can_be_exchanged(switch, capsys):
    slot, constant, value = SWITCHES[switch]
    arguments = switch.replace("--A.", "--model.algorithm.").split()
    part = yaml.safe_load(printed(capsys, "--model.algorithm", "FedPace", *arguments)[1])["init_args"][slot]
    found = part if constant is None else part["init_args"][constant]
    assert (found["class_path"] if isinstance(found, dict) else found) == value


def test_what_says_twice_when_the_server_moves_is_refused(capsys):
    given = ["--model.algorithm.clients_per_round", "3", "--model.algorithm.schedule", "Synchronous"]
    assert main(["fit", "--config", CONFIG, "--model.algorithm", "FedPace", *given, *TOY]) != 0
    assert "clients_per_round and schedule both say when the server moves" in capsys.readouterr().err
