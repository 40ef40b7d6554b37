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
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
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
