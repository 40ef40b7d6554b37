"""The folder of a comparison: whose it is, what is in it already, and who is at work in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fedlight.compare.plan import RUNS, PlannedRun
from fedlight.core.checkpoint_file import read_checkpoint_file
from fedlight.errors import CheckpointError, ConfigError
from fedlight.tracking.run_note import DONE, NOTE, read_note

COMPARISON = "comparison.yaml"
LOCK = ".lock"
LAST = "last.ckpt"


@dataclass(frozen=True)
class Ready:
    """A planned run with what is known before it starts.

    Attributes:
        run: the run.
        config_hash: of its configuration.
        max_rounds: rounds that it ends after at the latest; None: no limit.
    """

    run: PlannedRun
    config_hash: str
    max_rounds: int | None


@dataclass(frozen=True)
class Start:
    """Where a run begins.

    Attributes:
        ckpt_path: checkpoint that it goes on from; None: anew.
        reason: why it begins anew although it had begun; empty where it hadn't, or goes on.
    """

    ckpt_path: Path | None = None
    reason: str = ""


def check_folder(out: Path, runs: Sequence[Ready]) -> None:
    """Raise ConfigError where a folder is no comparison's, or another's."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file; choose a folder")
    if not (out / COMPARISON).is_file():
        others = sorted(path.name for path in out.iterdir() if path.name not in (RUNS, LOCK)) if out.is_dir() else []
        if others:
            raise ConfigError(
                f"--out {out} holds other files ({', '.join(others[:3])}{', ...' * (len(others) > 3)}) and no "
                f"{COMPARISON}; choose another folder"
            )
    planned = {ready.run.folder.resolve(): ready for ready in runs}
    for path in sorted((out / RUNS).rglob(NOTE)):
        ready, folder = planned.get(path.parent.resolve()), path.parent
        if ready is None:
            raise ConfigError(
                f"--out {out} is another comparison's: it has {folder.relative_to(out)}, which this one hasn't; choose "
                f"another folder, or remove {folder}"
            )
        noted = read_note(folder).get("config_hash")
        if noted not in (None, ready.config_hash):
            raise ConfigError(
                f"--out {out} is another comparison's: {ready.run.name} ran with other settings (see config.yaml below "
                f"{folder}); choose another folder, or remove {folder}"
            )


def is_done(ready: Ready) -> bool:
    """Return whether a run has come to its end, with the settings that the comparison gives it."""
    note = read_note(ready.run.folder)
    return note.get("status") == DONE and note.get("config_hash") == ready.config_hash


def find_start(ready: Ready) -> Start:
    """Return where a run that isn't done begins: at its newest checkpoint, if that can be gone on from."""
    found = sorted(ready.run.folder.rglob(LAST), key=lambda path: path.stat().st_mtime)
    if not found:
        return Start()
    path = found[-1]
    try:
        rounds = int(read_checkpoint_file(str(path), "its checkpoint")["fedlight"]["round_idx"])
    except CheckpointError as error:
        return Start(reason=str(error))
    if ready.max_rounds is not None and rounds >= ready.max_rounds:
        return Start(reason="it was ended between its last round and its last lines")
    return Start(path)


def clear(folder: Path) -> None:
    """Remove what is left of a run that begins anew."""
    shutil.rmtree(folder, ignore_errors=True)


def write_comparison(out: Path, resolved: dict[str, Any]) -> None:
    """Write what is compared, at once, for the report and for whoever finds the folder."""
    out.mkdir(parents=True, exist_ok=True)
    partial = out / f"{COMPARISON}.part"
    partial.write_text(yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True))
    partial.replace(out / COMPARISON)


@contextmanager
def lock(out: Path) -> Iterator[int]:
    """Hold a folder for one comparison, and yield the descriptor that its runs inherit.

    The system lets go of it when the last process that has it ends: runs that outlive a killed comparison hold it too.

    Raises:
        ConfigError: another comparison, or a run that it has left, is at work in the folder.
    """
    import fcntl

    out.mkdir(parents=True, exist_ok=True)
    with (out / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"--out {out}: another fedlight compare, or a run that it left behind, is at work there; wait until it "
                "has ended, or end it"
            ) from error
        yield file.fileno()
