"""What a new user stumbles over: each gets one line that says the way out, and nothing half-written is left."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fedlight.cli import main

FIT = ("fit", "--config", "tiny.yaml")
LAST = "out/version_0/checkpoints/last.ckpt"

NETS = """\
import torch
import lightning.pytorch as pl

class NotModule(torch.nn.Module):
    pass

class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.example_input_array = torch.zeros(2, 1, 8, 8)
        self.hidden, self.head = torch.nn.Linear(64, 16), torch.nn.Linear(16, 10)
    def forward(self, x):
        return self.head(self.hidden(x.flatten(1)).relu())
    def loss(self, batch):
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])
    def training_step(self, batch, batch_idx):
        return self.loss(batch)
    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.loss(batch))
        self.log("val/f1", 1.0 - 0.25 * self.trainer.current_epoch)
        self.log("val/mae", 2.0 + self.trainer.current_epoch)
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

class Forgetful(Net):
    def training_step(self, batch, batch_idx):
        self.loss(batch)

class Sparing(Net):
    def training_step(self, batch, batch_idx):
        return self.loss(batch) if batch_idx == 1 else None

class Exploding(Net):
    def training_step(self, batch, batch_idx):
        return self.loss(batch) * float("nan")

class Breaking(Net):
    def validation_step(self, batch, batch_idx):
        if self.trainer.current_epoch == 2:
            raise ValueError("in round 3")

class NoLength(torch.utils.data.Dataset):
    def __getitem__(self, index):
        return torch.zeros(1, 8, 8), 0

class NoIndex(torch.utils.data.Dataset):
    def __len__(self):
        return 40
"""


@pytest.fixture(autouse=True)
def nets(request, monkeypatch):
    """A module of the user's own under a name that no other test has imported."""
    name = f"nets_{abs(hash(request.node.nodeid))}"
    Path(f"{name}.py").write_text(NETS)
    return name


def files_below(folder):
    return {path.name for path in Path(folder).rglob("*")}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--trainer.max_epochs", "0"), "trainer.max_epochs is 0, which trains nothing; give a number of rounds"),
        (("--trainer.limit_train_batches", "0"), "trainer.limit_train_batches is 0, which trains nothing"),
        (("--trainer.gradient_clip_val", "0.5"), "set gradient_clip_norm: 0.5 of the local loop"),
        (("--trainer.accumulate_grad_batches", "2"), "raise data.batch_size, or the epochs of the local loop"),
        (("--model.cleint", "x.Y"), "unknown option --model.cleint; did you mean --model.client?"),
        (
            ("--data.validate_on", "test", "--monitor", "val/f1"),
            "monitor is val/f1, but with data.validate_on: test validation reads the test set",
        ),
    ],
)
def test_settings_of_the_trainer(refusal, arguments, line):
    assert line in refusal(*FIT, *arguments)
    assert not Path("out").exists()


def test_a_class_that_is_no_module(refusal, nets):
    assert refusal(*FIT, "--model.client", f"{nets}.NotModule") == (
        f"model.client: {nets}.NotModule is no LightningModule; derive it from lightning.pytorch.LightningModule (not "
        "pytorch_lightning's)"
    )


def test_what_a_module_imports_is_not_installed(refusal):
    Path("needs_more.py").write_text("import no_such_package\n")
    assert refusal(*FIT, "--model.client", "needs_more.Net") == (
        "model.client: can't import needs_more.Net: it needs no_such_package, which is not installed"
    )


def test_a_typo_in_the_key_of_a_section(refusal):
    Path("typo.yaml").write_text(Path("tiny.yaml").read_text().replace("  client:", "  cleint:"))
    assert refusal("fit", "--config", "typo.yaml") == "unknown key model.cleint; did you mean model.client?"


@pytest.mark.parametrize(("name", "lacks"), [("NoLength", "__len__"), ("NoIndex", "__getitem__")])
def test_a_dataset_without_length_or_index(config, refusal, nets, name, lacks):
    file = config(f"data: {{dataset: {{class_path: MapDataset, init_args: {{train: {nets}.{name}}}}}}}\n")
    assert refusal(*FIT, "--config", file) == (
        f"{name} has no {lacks}: clients need a map-style Dataset, which has __len__ and __getitem__"
    )
    assert not Path("out").exists()


@pytest.mark.parametrize("subcommand", ["validate", "test"])
def test_random_weights_are_not_scored(refusal, subcommand):
    line = refusal(subcommand, *FIT[1:])
    assert line.startswith(f"fedlight {subcommand} needs --ckpt_path CKPT")
    assert "the weights are random" in line


def test_checkpoints_of_something_else(refusal):
    torch.save({"state_dict": {}}, "plain.ckpt")
    for subcommand in ("fit", "validate", "test"):
        assert refusal(subcommand, *FIT[1:], "--ckpt_path", "plain.ckpt").startswith(
            "ckpt_path: plain.ckpt is no checkpoint of fedlight; give one that fedlight fit has written"
        )
    assert refusal("test", *FIT[1:], "--ckpt_path", "tiny.yaml").startswith("ckpt_path: tiny.yaml is no checkpoint of")
    assert not Path("out").exists()


def test_a_module_without_a_test_step_and_a_run_without_rounds_left(refusal, capsys, nets):
    own = ("--model.client", f"{nets}.Net")
    assert main([*FIT, *own]) == 0
    capsys.readouterr()
    assert refusal("test", *FIT[1:], *own, "--ckpt_path", LAST).startswith("Net has no test_step, so fedlight test")
    assert refusal(*FIT, *own, "--ckpt_path", LAST) == (
        f"{LAST} has 1 round behind it, and trainer.max_epochs is 1; to go on, raise --trainer.max_epochs above 1"
    )


def test_a_module_that_returns_no_loss(capsys, nets):
    assert main([*FIT, "--model.client", f"{nets}.Forgetful"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("fedlight: Forgetful.training_step returned None for every batch of every client in round 1")
    assert "end it with `return loss`" in line
    assert not Path("out").exists()


def test_what_a_run_has_logged_stays_when_it_breaks_later(nets):
    options = ("--trainer.max_epochs", "3", "--trainer.enable_checkpointing", "false")
    assert main([*FIT, "--model.client", f"{nets}.Breaking", *options]) == 1
    assert {"jobs.csv", "config.yaml"} <= files_below("out")


def test_a_module_may_skip_batches(nets):
    assert main([*FIT, "--model.client", f"{nets}.Sparing"]) == 0


def test_a_run_without_an_accepted_update_has_failed(capsys, nets):
    assert main([*FIT, "--model.client", f"{nets}.Exploding", "--trainer.max_epochs", "3"]) == 2
    captured = capsys.readouterr()
    assert "Run finished" not in captured.out
    assert "Run ended, and every update was rejected" in captured.out
    assert captured.out.count("left out") == 1
    assert "round 1: left out 3 clients whose updates were not finite" in captured.out
    assert captured.err.splitlines()[-1].startswith("fedlight: no update of any client was finite")


def best():
    return torch.load("out/version_0/checkpoints/best.ckpt", weights_only=True)["epoch"]


@pytest.mark.parametrize(
    ("options", "shown", "by", "epoch"),
    [
        # Of what Net logs, f1 falls from round to round and mae rises.
        ((), "val f1 1.000", "highest val/f1, 1.0000", 0),
        (("--monitor", "val/mae"), "val mae 2.000", "lowest val/mae, 2.0000", 0),
        (("--monitor", "val/mae", "--monitor_mode", "max"), "val mae 2.000", "highest val/mae, 4.0000", 2),
    ],
)
def test_the_best_round_by_what_the_module_logs(capsys, nets, options, shown, by, epoch):
    assert main([*FIT, *options, "--model.client", f"{nets}.Net", "--trainer.max_epochs", "3"]) == 0
    out = capsys.readouterr().out
    assert f"round 1/3 · {shown}" in out
    assert by in out
    assert best() == epoch


def test_a_resumed_run_remembers_its_best_round(nets):
    own = ("--model.client", f"{nets}.Net")
    assert main([*FIT, *own]) == 0
    assert main([*FIT, *own, "--trainer.max_epochs", "3", "--ckpt_path", LAST]) == 0
    assert best() == 0


def test_a_monitor_that_is_never_logged(capsys, nets):
    assert main([*FIT, "--model.client", f"{nets}.Net", "--monitor", "val/f2"]) == 2
    assert capsys.readouterr().err == (
        "fedlight: monitor is val/f2, which the client's module doesn't log; it logs val/loss, val/f1, val/mae, so "
        "name what it logs, or log that\n"
    )
    assert not Path("out").exists()


def test_other_options_of_a_resumed_run_are_told(capsys):
    assert main([*FIT, "--model.algorithm.clients_per_round", "2", "--test_after_fit", "false"]) == 0
    assert capsys.readouterr().err == ""
    more = ("--model.algorithm.clients_per_round", "3", "--trainer.max_epochs", "2", "--test_after_fit", "false")
    assert main([*FIT, *more, "--ckpt_path", LAST]) == 0
    assert capsys.readouterr().err == (
        f"fedlight: note: {LAST} goes on with other settings: model.algorithm.clients_per_round was 2 and is 3\n"
    )


@pytest.mark.parametrize("command", ["fit", "profile"])
@pytest.mark.parametrize("given", [("--config", "binary.yaml"), ("--config=binary.yaml",)])
def test_a_config_that_is_no_text(refusal, command, given):
    Path("binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert refusal(command, "--config", "tiny.yaml", *given) == "binary.yaml is no text: give --config a YAML file"
