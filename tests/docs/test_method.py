"""The table of the method names classes that exist, and arguments that they take."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/method.md").read_text()
ROOMS = ("algorithms", "parts", "core", "core.types", "core.slots", "fleet", "data", "tracking", "submodels", "models")
MORE = ("submodels.coverage", "parts.time_model", "parts.server_update")


def rows():
    for line in TEXT.splitlines():
        if line.startswith("|") and not line.startswith(("| item |", "|---")):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def named():
    """Every class of the second column, with the arguments named behind it."""
    return sorted({found for row in rows() for found in re.findall(r"`([A-Z]\w+)(?:\(([\w, ]+)\))?`", row[1])})


def class_of(name):
    modules = [importlib.import_module(f"fedlight.{room}") for room in (*ROOMS, *MORE)]
    return next((getattr(module, name) for module in modules if hasattr(module, name)), None)


@pytest.mark.parametrize(("name", "arguments"), named())
def test_it_exists(name, arguments):
    kind = class_of(name)
    assert inspect.isclass(kind)
    assert set(arguments.split(", ") if arguments else ()) <= set(inspect.signature(kind).parameters)


def test_every_item_has_one():
    table = list(rows())
    assert len(table) > 50
    for item, what in table:
        assert re.search(r"`[A-Z]\w+", what), item


def test_every_algorithm_is_in_it():
    algorithms = importlib.import_module("fedlight.algorithms").__all__
    assert set(algorithms) <= {name for name, _ in named()}


def test_the_readme_lists_every_algorithm_with_its_card():
    readme = (ROOT / "README.md").read_text()
    cards = re.findall(r"^\| \[`(\w+)`\]\((docs/algorithms/\w+\.md)\) \|", readme, re.MULTILINE)
    assert sorted(name for name, _ in cards) == sorted(importlib.import_module("fedlight.algorithms").__all__)
    for name, card in cards:
        assert card == f"docs/algorithms/{name.lower()}.md"
        assert (ROOT / card).is_file()
