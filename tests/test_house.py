"""The house: rooms import only from lower floors, and importing a room stays light."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

FLOORS = {
    "fedlight.errors": 0,
    "fedlight.submodels": 0,
    "fedlight.models": 0,
    "fedlight.core": 1,
    "fedlight.parts": 2,
    "fedlight.fleet": 2,
    "fedlight.data": 2,
    "fedlight.tracking": 2,
    "fedlight.algorithms": 3,
    "fedlight.export": 4,
    "fedlight.report": 4,
    "fedlight.compare": 5,
    "fedlight.cli": 6,
}
HEAVY = ("flwr", "onnx", "onnxruntime", "onnxscript", "matplotlib", "sklearn", "pandas", "pyarrow", "scipy")


def source_files():
    """Every source file with its module name."""
    for path in sorted([*ROOT.glob("fedlight/**/*.py"), *ROOT.glob("models/**/*.py")]):
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = ("fedlight", *parts) if parts[0] == "models" else parts
        yield path, ".".join(part for part in parts if part != "__init__")


def room_of(module):
    room = ".".join(module.split(".")[:2])
    return room if room in FLOORS else None


def imports_of(path, module):
    """Module names imported anywhere in a file, type checking included."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
            origin = node.module or "" if node.level == 0 else ".".join(filter(None, (base, node.module)))
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def test_every_source_file_stands_in_a_room():
    assert {module for _, module in source_files() if room_of(module) is None} == {"fedlight"}


def test_every_package_is_shipped():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(module for path, module in source_files() if path.name == "__init__.py")


def test_rooms_import_only_from_lower_floors():
    wrong = []
    for path, module in source_files():
        for imported in imports_of(path, module):
            own, other = room_of(module), room_of(imported)
            if own and other and own != other and other != "fedlight.errors" and FLOORS[other] >= FLOORS[own]:
                wrong.append(f"{module} imports {imported}")
    assert not wrong


def test_only_one_file_imports_torch_pruning():
    users = {
        module for path, module in source_files() if any("torch_pruning" in name for name in imports_of(path, module))
    }
    assert users == {"fedlight.submodels.tracer"}


def test_nothing_in_fedlight_names_a_model_and_models_know_nothing_of_federation():
    assert not [
        module
        for path, module in source_files()
        if not module.startswith("fedlight.models")
        and any(name.startswith("fedlight.models") for name in imports_of(path, module))
    ]
    words = ("federat", "cohort", "submodel")
    assert not [
        path
        for path in (ROOT / "models").glob("*.py")
        for word in words
        if path.name != "__init__.py" and word in path.read_text().lower()
    ]


def test_files_stay_small():
    assert not [(path.name, lines) for path, _ in source_files() if (lines := len(path.read_text().splitlines())) > 400]


def test_imports_are_light():
    # Lightning and torchvision bring what they bring: only what appears because of us counts.
    rooms = [room for room in FLOORS if room not in ("fedlight.export", "fedlight.cli")]
    code = (
        "import sys, lightning.pytorch, torchvision, torchmetrics; before = set(sys.modules);"
        f"import {', '.join(rooms)}; print(*(set(sys.modules) - before))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {name.split(".")[0] for name in loaded} & set(HEAVY)
