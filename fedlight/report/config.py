"""A run's configuration, told in words."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

UNTOLD = ("root", "download")
"""Arguments that say where things lie, not what they are."""


def value_at(config: Mapping[str, Any], key: str) -> Any:
    """Return the value at a key with dots, None where there is none."""
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def class_name(value: Any) -> str:
    """Return the bare name of a class in a config, empty for anything else."""
    if isinstance(value, Mapping):
        value = value.get("class_path")
    return value.rpartition(".")[2] if isinstance(value, str) else ""


def tell(value: Any, with_defaults: bool = True) -> str:
    """Return a value of a config in short: ``DirichletByClient(alpha=0.5)``, without what is null.

    Args:
        value: a class with its arguments, a list, or a plain value.
        with_defaults: whether to name arguments that have their default value; those of other packages' classes,
            which are not imported for this, are always named.
    """
    if isinstance(value, list | tuple):
        return "[" + ", ".join(tell(one, with_defaults) for one in value) + "]"
    if not isinstance(value, Mapping):
        return "all" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    if "class_path" not in value:
        return ", ".join(f"{name}={tell(one, with_defaults)}" for name, one in value.items() if one is not None)
    defaults = {} if with_defaults else _defaults(str(value["class_path"]))
    shown = [
        f"{name}={tell(given, with_defaults)}"
        for name, given in (value.get("init_args") or {}).items()
        if given is not None and name not in UNTOLD and not (name in defaults and defaults[name] == given)
    ]
    return class_name(value) + (f"({', '.join(shown)})" if shown else "")


def explain(value: Any) -> str:
    """Return the first line of the docstring of one of our classes in a config, without its full stop, else nothing."""
    found = _own_class(str(value.get("class_path"))) if isinstance(value, Mapping) else None
    return (inspect.getdoc(found) or "").partition("\n")[0].rstrip(".") if found is not None else ""


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every plain value with its key, dots between; ``init_args`` and ``class_path`` are left out of keys."""
    for name, value in config.items():
        key = prefix if name in ("init_args", "class_path") else f"{prefix}.{name}" if prefix else str(name)
        if isinstance(value, Mapping):
            yield from flatten(value, key)
        else:
            yield key, value


def _defaults(class_path: str) -> dict[str, Any]:
    found = _own_class(class_path)
    parameters = inspect.signature(found).parameters.values() if found is not None else ()
    return {parameter.name: parameter.default for parameter in parameters}


def _own_class(class_path: str) -> type | None:
    """Return a class of fedlight; nothing else is imported on behalf of a log."""
    module, _, name = class_path.rpartition(".")
    if module.split(".")[0] != "fedlight":
        return None
    try:
        found = getattr(import_module(module), name, None)
    except ImportError:  # of another version
        return None
    return found if isinstance(found, type) else None
