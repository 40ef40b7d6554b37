"""Turns jsonargparse's reports, often ten lines long, into one line: what is wrong, where, and what was meant."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import is_dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any, final, get_args, get_type_hints

from fedlight.core import Algorithm, Server
from fedlight.data import FederatedDataModule

MAX_LENGTH = 400
"""Characters of a message that no rule here knows, before it is cut."""


@final
class ParserProblem:
    """What jsonargparse says, taken apart.

    Args:
        text: its message.
        known_keys: all keys of the parser, with dots.
    """

    def __init__(self, text: str, known_keys: Sequence[str]) -> None:
        self.text = text
        self.known_keys = known_keys
        keys = [key for key in re.findall(r'Parser key "([^"]+)"', text) if key not in ("config", "subcommand")]
        self.key = ".".join(dict.fromkeys(keys))
        classes = re.findall(r"given class_path '([^']+)'|Namespace\(class_path='([^']+)'", text)
        self.class_path = next((a or b for a, b in reversed(classes)), None)

    @property
    def where(self) -> str:
        """The key and the class that it names, as the start of a message."""
        short = self.class_path.rpartition(".")[2] if self.class_path else ""
        if self.key and short:
            return f"{self.key} ({short}): "
        return f"{self.key}: " if self.key else ""


def explain(text: str, known_keys: Sequence[str] = ()) -> str:
    """Return one line for a message of jsonargparse.

    Args:
        text: the message, of any length.
        known_keys: all keys of the parser, for suggestions.
    """
    text = re.sub(r"^Call to compute_fn of link .*? failed: ", "", text)
    problem = ParserProblem(text, [key.partition(".")[2] if _is_subcommand(key) else key for key in known_keys])
    for pattern, rule in RULES:
        match = re.search(pattern, text, re.DOTALL)
        if match:
            return rule(problem, match)
    squeezed = " ".join(text.replace("\n", " ").split())
    return squeezed if len(squeezed) <= MAX_LENGTH else squeezed[: MAX_LENGTH - 3] + "..."


def suggest(wrong: str, known: Iterable[str]) -> str:
    """Return ``; did you mean ...?`` with the closest known names, or an empty string."""
    names = {name.lower(): name for name in known}
    close = get_close_matches(wrong.lower(), names, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(names[name] for name in close)}?" if close else ""


def _is_subcommand(key: str) -> bool:
    return key.partition(".")[0] in ("fit", "validate", "test")


def _unknown_key(problem: ParserProblem, match: re.Match[str]) -> str:
    wrong = match.group(1)
    if problem.class_path is None:
        wrong = wrong.partition(".")[2] if _is_subcommand(wrong) else wrong
        wrong, meant = _meant_keys(wrong, problem.known_keys)
        return f"unknown key {wrong}{_did_you_mean(meant)}"
    known = _arguments(problem.class_path)
    hint = suggest(wrong, known) or (f"; it takes {', '.join(known)}" if known else "; it takes no arguments")
    return f"{problem.where}unknown key {wrong}{hint}"


def _meant_keys(wrong: str, known: Sequence[str]) -> tuple[str, list[str]]:
    """Return an unknown key up to its first part that is unknown, and the known keys that are close to it."""
    deeper = _keys_of_parts(wrong, known)
    if deeper:
        return wrong, deeper
    parts, split = wrong.split("."), [key.split(".") for key in known]
    for depth in range(len(parts)):
        if any(key[: depth + 1] == parts[: depth + 1] for key in split):
            continue
        # Compared part by part: the common beginning would make all keys look alike.
        siblings = {key[depth] for key in split if len(key) > depth and key[:depth] == parts[:depth]}
        near = get_close_matches(parts[depth], sorted(siblings), n=3 if depth else 1)
        whole = [".".join([*parts[:depth], name, *parts[depth + 1 :]]) for name in near]
        if whole and whole[0] in known:
            return wrong, [key for key in whole if key in known]
        return ".".join(parts[: depth + 1]), [".".join([*parts[:depth], name]) for name in near]
    return wrong, []


def _keys_of_parts(wrong: str, known: Sequence[str]) -> list[str]:
    """Return the keys by which parts beside an unknown key take what it names: data.partition.min_samples."""
    parent, _, name = wrong.rpartition(".")
    slots = [key for key in known if parent and key.rpartition(".")[0] == parent]
    classes = {key: [kind for base in _expected_classes(key) for kind in _classes_below(base)] for key in slots}
    return [f"{key}.{name}" for key, kinds in classes.items() if any(name in _taken(kind) for kind in kinds)]


def _did_you_mean(names: Sequence[str], dashes: str = "") -> str:
    return f"; did you mean {' or '.join(dashes + name for name in names)}?" if names else ""


def _missing(problem: ParserProblem, match: re.Match[str]) -> str:
    names = " ".join(match.group(1).split())
    names = re.sub(r"\b(fit|validate|test)\.", "", names)
    if problem.key:
        place = "in that entry of the list" if _is_plain_entry(problem.class_path) else "under init_args"
        return f"{problem.where}missing {names}; give it {place}"
    if "." not in names:
        return f"missing {names}; --help lists all options"
    return f"missing {names}; give a --config FILE that sets it (configs/quickstart.yaml sets all), or the option"


def _unrecognized(problem: ParserProblem, match: re.Match[str]) -> str:
    first = match.group(1).split()[0]
    if not first.startswith("-"):
        is_file = first.endswith((".yaml", ".yml", ".json"))
        meant_config = f"did you mean --config {first}?" if is_file else "options begin with --, and --help lists all"
        return f"unexpected {first}; {meant_config}"
    wrong = first.partition("=")[0]
    dashes = wrong[: len(wrong) - len(wrong.lstrip("-"))]
    wrong, meant = _meant_keys(wrong.lstrip("-"), problem.known_keys)
    return f"unknown option {dashes}{wrong}{_did_you_mean(meant, '--') or '; --help lists all'}"


def _unknown_class(problem: ParserProblem, match: re.Match[str]) -> str:
    wrong = match.group(1)
    known = [kind.__name__ for base in _expected_classes(problem.key) for kind in _classes_below(base)]
    plain = problem.key + ": " if problem.key else ""
    hint = suggest(wrong.rpartition(".")[2], known)
    if not hint:
        hint = f"; known are {', '.join(known)}, or give a full import path" if known else "; give a full import path"
    return f"{plain}unknown class {wrong}{hint}"


def _no_attribute(problem: ParserProblem, match: re.Match[str]) -> str:
    module, wrong = match.groups()
    known = [name for name, value in vars(import_module(module)).items() if isinstance(value, type)]
    return f"{problem.key}: module {module} has no {wrong}{suggest(wrong, known) or '; check the class path'}"


def _no_module(problem: ParserProblem, match: re.Match[str]) -> str:
    module = match.group(1)
    if problem.class_path and not problem.class_path.startswith(module):
        return f"{problem.key}: can't import {problem.class_path}: it needs {module}, which is not installed"
    return (
        f"{problem.key}: can't import {problem.class_path or module}: there is no module {module}; run fedlight from "
        "the folder that holds it, or add that folder to PYTHONPATH"
    )


def _no_subclass(problem: ParserProblem, match: re.Match[str]) -> str:
    path, base = match.groups()
    if base == "LightningModule":
        base, way_out = "LightningModule", "derive it from lightning.pytorch.LightningModule (not pytorch_lightning's)"
    else:
        way_out = "derive it from that class, or choose another"
    where = f"{problem.key}: " if problem.key else ""
    return f"{where}{path} is no {base}; {way_out}"


def _no_file(problem: ParserProblem, match: re.Match[str]) -> str:
    return f"there is no config file {match.group(1)}; check the path after --config"


def _folder(problem: ParserProblem, match: re.Match[str]) -> str:
    return f"{match.group(1)} is no file; give a config file after --config"


def _bad_yaml(problem: ParserProblem, match: re.Match[str]) -> str:
    return f"the config file is no valid YAML: {' '.join(match.group(1).split())}"


def _no_keys(problem: ParserProblem, match: re.Match[str]) -> str:
    what = "holds no keys" if match.group(1).strip() else "is empty"
    return f"the config file {what}; write lines of KEY: VALUE into it"


def _wrong_type(problem: ParserProblem, match: re.Match[str]) -> str:
    value = match.groups()[-1].strip()
    expected = re.findall(r"Expected (?:a )?(.+?)(?=\. Got value|\n|$)", problem.text)
    kinds = [_plain_type(kind) for kind in expected if "NoneType" not in kind and not kind.startswith("path but")]
    one = "list" in kinds and re.fullmatch(r"[\w.]+", value)
    way_out = f"; --{problem.key}+={value} adds one to it" if one and problem.key else ""
    way_out = f"; write [{value}]" if way_out and "dict" in kinds else way_out
    return f"{problem.where}expected {' or '.join(dict.fromkeys(kinds)) or 'another type'}, got {value}{way_out}"


def _no_class(problem: ParserProblem, match: re.Match[str]) -> str:
    return f"{problem.where}expected a class (its name, or class_path and init_args), got {match.group(1)}"


def _too_early(problem: ParserProblem, match: re.Match[str]) -> str:
    key, option = problem.key, match.group(1)
    refused = re.search(rf'Parser key "{option}":\s*Expected a (.+?)\. Got value: (\S+)', problem.text)
    if refused:  # it has a class, which takes the option, but not this value
        return f"{problem.where}expected {_plain_type(refused.group(1))}, got {refused.group(2)}"
    return f"{key}.{option} is set, but {key} has no class yet; put --{key} CLASS before it"


def _plain_type(kind: str) -> str:
    literal = re.fullmatch(r"typing\.Literal\[(.*)\]", kind)
    if literal:
        return "one of " + literal.group(1)
    return re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", r"\1", kind)


RULES: Sequence[tuple[str, Callable[[ParserProblem, re.Match[str]], str]]] = (
    (r"Option '([^']+)' is not accepted", _unknown_key),
    (r"does not accept option '([^']+)'", _unknown_key),
    (r"arguments? (?:is|are) required: (.+?)(?:\n *- |\n *Given value|$)", _missing),
    (r'Key "([^"]+)" is required', _missing),
    (r"unrecognized arguments: (.+)", _unrecognized),
    (r"module '([\w.]+)' has no attribute '(\w+)'", _no_attribute),
    (r"Import path (\S+) does not correspond to a subclass of (\w+)", _no_subclass),
    (r"No module named '([\w.]+)'", _no_module),
    (r"Expected a dot import path string: (\S+)", _unknown_class),
    (r"File does not exist: '?([^'\n]+)'?", _no_file),
    (r"Path is not a file: '?([^'\n]+)'?", _folder),
    (r"Problems parsing config: (.+)", _bad_yaml),
    (r"^Unexpected config:(.*)", _no_keys),
    (r"Got value: (\S+).*Subclass types expect", _no_class),
    (r"Got value: NestedArg\(key='(\w+)'", _too_early),
    (r"Given value: NestedArg\(key='(\w+)'", _too_early),
    (r"Given value: (.+)", _wrong_type),
    (r"Got value: (.+)", _wrong_type),
)
"""What to look for, in this order, and how to say it."""


def _arguments(class_path: str) -> list[str]:
    """Return the names that a class takes, none where it can't be looked at."""
    module, _, name = class_path.rpartition(".")
    try:
        return _taken(getattr(import_module(module), name))
    except (ImportError, AttributeError, ValueError, TypeError):
        return []


def _taken(kind: type) -> list[str]:
    parameters = inspect.signature(kind).parameters.values()
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]


def _is_plain_entry(class_path: str | None) -> bool:
    """Return whether a class is plain values, which a config gives without init_args (a DeviceClass in its list)."""
    module, _, name = (class_path or "").rpartition(".")
    return bool(module) and is_dataclass(getattr(import_module(module), name, None))


def _expected_classes(key: str) -> list[type]:
    """Return the classes that a key of ours takes (``model.algorithm``, a slot's name, ``model.fleet.devices``)."""
    owner_key, _, name = key.rpartition(".")
    for owner in (Server, FederatedDataModule, Algorithm):
        expected = _hinted_classes(owner, name)
        if expected:
            return expected
    # The key of a part within a part: the class of the outer one may be any.
    owners = [kind for base in _expected_classes(owner_key) for kind in _classes_below(base)] if owner_key else []
    return list(dict.fromkeys(one for owner in owners for one in _hinted_classes(owner, name)))


def _hinted_classes(owner: type, name: str) -> list[type]:
    """Return the first class of ours that an argument takes, as a list; empty where there is none."""
    try:
        hint: Any = get_type_hints(owner.__init__).get(name)  # type: ignore[misc]
    except NameError:  # a user's class whose types are imported for type checkers only
        return []
    options = [inner for option in get_args(hint) or (hint,) for inner in get_args(option) or (option,)]
    return [one for one in options if getattr(one, "__module__", "").startswith("fedlight")][:1]


def _classes_below(base: type) -> list[type]:
    """Return all concrete classes below ``base`` that have been imported."""
    found: dict[str, type] = {}
    waiting = [base]
    while waiting:
        current = waiting.pop(0)
        waiting += current.__subclasses__()
        if not inspect.isabstract(current) and not current.__name__.startswith("_"):
            found.setdefault(current.__name__, current)
    return list(found.values())
