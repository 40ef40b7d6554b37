"""What a run that goes on shares with the one that its checkpoint is of."""

from __future__ import annotations

from argparse import ArgumentError
from collections.abc import Mapping
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from fedlight.cli.settings import LIMITS
from fedlight.errors import ConfigError


def check_rounds_left(path: str, checkpoint: Mapping[str, Any], trainer: Namespace) -> None:
    """Raise ConfigError if the run in a checkpoint has all its rounds behind it."""
    done = checkpoint["fedlight"]["round_idx"]
    for key in LIMITS:
        limit = trainer.get(key)
        if limit is not None and 0 <= limit <= done:
            raise ConfigError(
                f"{path} has {done} round{'s' * (done != 1)} behind it, and trainer.{key} is {limit}; to go on, raise "
                f"--trainer.{key} above {done}"
            )


def other_options(parser: LightningArgumentParser, saved: str | None, config: Namespace) -> list[str]:
    """Return, in words, which options of the algorithm and the fleet are not those of a saved configuration.

    Args:
        parser: of ``fit``.
        saved: configuration as YAML, as a checkpoint carries it.
        config: the one to compare with.
    """
    try:
        before = parser.parse_string(saved or "")
    except ArgumentError:  # of another version: what can't be read is not compared
        return []
    theirs, ours = (
        yaml.safe_load(str(parser.dump(one, skip_unset=False, skip_validation=True)))["model"]
        for one in (before, config)
    )
    return [
        told
        for part in ("algorithm", "fleet")
        # Another class is refused later on.
        if theirs[part].get("class_path") == ours[part].get("class_path")
        for told in _differences(theirs[part], ours[part], f"model.{part}")
    ]


def _differences(theirs: Any, ours: Any, key: str) -> list[str]:
    if theirs == ours:
        return []
    if not isinstance(theirs, Mapping) or not isinstance(ours, Mapping):
        return [f"{key} was {_name(theirs)} and is {_name(ours)}"]
    if theirs.get("class_path") != ours.get("class_path"):
        return [f"{key} was {_name(theirs)} and is {_name(ours)}"]
    return [
        told
        for name in sorted(theirs.keys() | ours.keys())
        for told in _differences(theirs.get(name), ours.get(name), key if name == "init_args" else f"{key}.{name}")
    ]


def _name(value: Any) -> str:
    if isinstance(value, Mapping) and "class_path" in value:
        return str(value["class_path"]).rpartition(".")[2]
    return "null" if value is None else str(value)
