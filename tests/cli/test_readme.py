"""What the README says to type does what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fedlight.cli import main

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()


def block(language: str) -> str:
    """Return the first code block of a language."""
    match = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert match is not None
    return match.group(1)


def test_bring_your_own_model_and_data(capsys):
    Path("waves.py").write_text(block("python"))
    Path("waves.yaml").write_text(block("yaml"))
    commands = [line for line in README.splitlines() if line.startswith("fedlight") and "waves" in line]
    assert [command.split()[1] for command in commands] == ["fit", "fit", "export"]
    for command in commands:
        assert main(command.split()[1:]) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert "round 20/20" in out
    assert out.count("Run finished") == 2
    assert [path.name for path in Path("runs/waves").iterdir()] == ["version_0"]
    # Three classes: a third is what guessing reaches.
    accuracy = float(re.findall(r"val accuracy +│ ([\d.]+) %", out)[-1])
    assert accuracy > 60
    assert json.loads(Path("waves-half/manifest.json").read_text())["check"]["passed"]


@pytest.mark.parametrize(
    "command", re.findall(r"^fedlight (?:export|profile)[^\n]*quickstart[^\n]*$", README, re.MULTILINE)
)
def test_commands_name_options_that_exist(command, capsys):
    # The checkpoint isn't there: anything but that being said would be a mistake in the README.
    assert main(command.split()[1:]) == 2
    assert "there is no file runs/quickstart/version_0/checkpoints/last.ckpt" in capsys.readouterr().err
