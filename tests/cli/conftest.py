from __future__ import annotations

import sys
import textwrap

import pytest

from fedlight.cli import main

CONFIG = """\
model:
  client:
    class_path: fedlight.models.ConvNet
    init_args: {variant: digits, lr: 0.1}
  algorithm: FedAvg
  fleet: ThreeTier
data:
  dataset: Digits
  num_clients: 3
  max_train_examples: 120
  batch_size: 20
trainer:
  max_epochs: 1
  accelerator: cpu
  devices: 1
  default_root_dir: out
num_threads: 1
"""


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch, blank_pictures):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "tiny.yaml").write_text(CONFIG)


@pytest.fixture
def config(tmp_path):
    """Writes a config with further YAML below it and returns the file's name."""

    def write(text: str) -> str:
        (tmp_path / "other.yaml").write_text(textwrap.dedent(text))
        return "other.yaml"

    return write


NET = """\
import torch, lightning
class Net(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.example_input_array = torch.zeros(2, 1, 8, 8)
        self.hidden, self.head = torch.nn.Linear(64, 16), torch.nn.Linear(16, 10)
    def forward(self, x):
        return self.head(self.hidden(x.flatten(1)).relu())
    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])
    def configure_optimizers(self):
"""


@pytest.fixture
def write_net(tmp_path):
    """Writes a module with a class Net, a user's network for digits that doesn't validate."""

    def write(name: str, *optimizer_lines: str) -> None:
        (tmp_path / name).write_text(NET + "".join(f"        {line}\n" for line in optimizer_lines))

    return write


@pytest.fixture
def refusal(capsys):
    """Runs the program, and returns the one line that it printed on stderr with exit code 2."""

    def run(*arguments: str) -> str:
        code = main(arguments)
        captured = capsys.readouterr()
        lines = captured.err.splitlines()
        assert code == 2, captured
        assert len(lines) == 1, captured.err
        assert captured.out == ""
        return lines[0].removeprefix("fedlight: ")

    return run
