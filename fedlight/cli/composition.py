"""What an algorithm is made of, down to the last constant, as YAML."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace

from fedlight.core import Algorithm

_Recorded = dict[int, tuple[object, dict[str, Any]]]


def composition_of(chosen: Namespace) -> str:
    """Return ``class_path`` and ``init_args`` of the plain :class:`~fedlight.core.Algorithm` that equals a choice.

    Published methods fill their slots in code; this is the same as configuration, with every constant, to look at and
    to change.

    Args:
        chosen: ``model.algorithm`` as parsed.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Algorithm, "algorithm")
    with _constructors() as made:
        algorithm = parser.instantiate(Namespace(algorithm=chosen)).algorithm  # type: ignore[no-untyped-call]
    slots = {slot: _as_config(part, made) for slot, part in algorithm.slots().items()}
    return str(yaml.safe_dump({"class_path": "fedlight.core.Algorithm", "init_args": slots}, sort_keys=False))


@contextmanager
def _constructors() -> Iterator[_Recorded]:
    """Note the arguments of every ``__init__``, by the object's id: parts needn't keep them, and many don't."""
    made: _Recorded = {}

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_name == "__init__":
            names, _, _, values = inspect.getargvalues(frame)
            one = values[names[0]] if names else None
            if getattr(getattr(type(one), "__init__", None), "__code__", None) is frame.f_code:
                made[id(one)] = (one, {name: values[name] for name in names[1:]})

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield made
    finally:
        sys.setprofile(before)


def _as_config(value: Any, made: _Recorded) -> Any:
    """Return a value as a config writes it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_as_config(one, made) for one in value]
    if isinstance(value, partial):
        return _class_to_be(value, made)
    if callable(value):
        return getattr(value, "__qualname__", str(value))
    _, given = made.get(id(value)) or (value, _found(value))
    # Where None stood for a part's default, that part is what is told.
    args = {name: getattr(value, name, None) if one is None else one for name, one in given.items()}
    return _config_of(type(value), args, made)


def _config_of(kind: type, args: Mapping[str, Any], made: _Recorded) -> dict[str, Any]:
    """Return a class and its arguments as a config writes them."""
    config: dict[str, Any] = {"class_path": _path(kind)}
    if args:
        config["init_args"] = {name: _as_config(one, made) for name, one in args.items()}
    return config


def _class_to_be(value: partial[Any], made: _Recorded) -> Any:
    """Return the class, and its arguments so far, that the parser's partial makes when its last argument is there."""
    kinds = [one for one in (value.func, *value.args) if isinstance(one, type)]
    return _config_of(kinds[-1], value.keywords, made) if kinds else str(value)


def _found(value: Any) -> dict[str, Any]:
    """Return the arguments of an object that was copied, as far as it or what it holds has them as attributes."""
    if type(value).__init__ is object.__init__:
        return {}
    holders = [value, *vars(value).values()]
    owners = {
        name: [one for one in holders if hasattr(one, name)] for name in inspect.signature(type(value)).parameters
    }
    return {name: getattr(found[0], name) for name, found in owners.items() if found}


def _path(kind: type) -> str:
    return kind.__name__ if kind.__module__.startswith("fedlight.") else f"{kind.__module__}.{kind.__qualname__}"
