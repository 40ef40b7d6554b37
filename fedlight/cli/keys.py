"""Names the key of the config behind a constructor's complaint."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from types import TracebackType
from typing import Any, final

from jsonargparse import Namespace

from fedlight.errors import ConfigError


@final
class _Constructor:
    """One ``__init__`` on the way to an error: the class, and its arguments by name."""

    def __init__(self, kind: type, given: dict[str, Any]) -> None:
        self.kind = kind
        self.given = given


def locate(error: BaseException, config: Namespace) -> ConfigError | None:
    """Return the ConfigError behind an error with the config's own key in front; None if there is none to place.

    Parts refuse their arguments by name (``every=0 ...``). The user may have set that argument by another name, an
    option of the algorithm that hands it on; the value tells which. Only messages that start with an argument's name
    can be placed.

    Args:
        error: as raised while ``config`` was made into objects.
        config: what was parsed.
    """
    refusal = _find(error)
    made = [] if refusal is None else list(_constructors(refusal.__traceback__))
    message = str(refusal)
    match = re.match(r"\w+(?=[=\[ ])", message)
    inner = next((one for one in reversed(made) if match is not None and match.group() in one.given), None)
    if match is None or inner is None:
        return None
    key, rest = match.group(), message[match.end() :]
    outer = made[0]
    where = next(_places(config, "", outer.kind), None)
    if where is None:
        return None
    value = inner.given[key]
    names = [key] if key in outer.given else [name for name, one in outer.given.items() if one is value]
    names = [name for name in names if key in name] or names
    told = names[0] if len(names) == 1 else key
    return ConfigError(f"{where} ({outer.kind.__name__}): {told}{rest}")


def _find(error: BaseException | None) -> ConfigError | None:
    """Return the refusal behind an error: the parser wraps what optional parts raise."""
    while error is not None and not isinstance(error, ConfigError):
        error = error.__cause__ or error.__context__
    return error


def _constructors(trace: TracebackType | None) -> Iterator[_Constructor]:
    """Yield the constructors of parts that were at work, the outermost first."""
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_code.co_name == "__init__":
            names, _, _, values = inspect.getargvalues(frame)
            kind = type(values[names[0]])
            if getattr(getattr(kind, "__init__", None), "__code__", None) is frame.f_code:
                yield _Constructor(kind, {name: values[name] for name in names[1:]})
        trace = trace.tb_next


def _places(value: Any, key: str, kind: type) -> Iterator[str]:
    """Yield the keys under which a config names a class."""
    if isinstance(value, list):
        for item in value:
            yield from _places(item, key, kind)
    if not isinstance(value, Namespace):
        return
    if value.get("class_path", "").rpartition(".")[2] == kind.__name__:
        yield key
    for name, inner in vars(value.get("init_args") or value).items():
        if name not in ("class_path", "init_args"):
            yield from _places(inner, f"{key}.{name}".lstrip("."), kind)
