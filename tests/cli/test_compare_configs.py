"""Every comparison in configs/compare/ is one: its runs are known, and fit takes the settings of each."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path

import pytest
import yaml

from fedlight.cli import main

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FILES = sorted((CONFIGS / "compare").glob("*.yaml"))


def num_runs(path):
    given = yaml.safe_load(path.read_text())
    cells = math.prod(len(values) for values in given.get("axes", {}).values())
    return (len(given.get("algorithms", [])) + len(given.get("variants", []))) * cells * len(given["seeds"])


def test_the_quickstart_is_four_algorithms_by_three_seeds():
    assert num_runs(CONFIGS / "compare" / "quickstart.yaml") == 12


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_runs_are_resolved(path, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(CONFIGS, tmp_path / "configs").parent)
    assert main(["compare", "--config", f"configs/compare/{path.name}", "--out", "out", "--print_commands"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(set(lines)) == num_runs(path)
    assert not Path("out").exists()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_says_how_it_is_run_and_comments_its_keys(path):
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    assert f"#   fedlight compare --config configs/compare/{path.name} --out runs/compare_{path.stem}" in lines
    keys = [line for line in lines if re.match(r"\w", line)]
    assert not [line for line in keys if "#" not in line and not line.startswith(("algorithms:", "variants:"))]
    assert (path.parent / yaml.safe_load(path.read_text())["base"]).is_file()


def test_the_file_in_the_docs_is_one(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(CONFIGS, tmp_path / "configs").parent)
    text = (CONFIGS.parent / "docs" / "compare.md").read_text()
    path = Path("configs/compare/docs.yaml")
    path.write_text(re.search(r"```yaml\n(.*?)```", text, re.DOTALL).group(1))
    assert main(["compare", "--config", str(path), "--out", "out", "--print_commands"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == num_runs(path) == 4 * 2 * 2 * 3
