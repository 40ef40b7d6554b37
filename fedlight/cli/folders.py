"""Where a run reads from and writes to, checked before anything is computed."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from lightning.pytorch.loggers import Logger, TensorBoardLogger

from fedlight.data.overview import CLIENTS_FILE, PICTURE_FILE
from fedlight.errors import CheckpointError, ConfigError
from fedlight.tracking.jobs import JOBS_FILE

NAMED_CHECKPOINTS = ("last", "best")
"""Values of ``ckpt_path`` that stand for the newest checkpoint of that name."""

FOREIGN_NAMES = ("hpc",)
"""Values of ``ckpt_path`` that Lightning would look up where fedlight writes nothing."""

RUN_NOTES = ("config.yaml", "hparams.yaml", CLIENTS_FILE, PICTURE_FILE, JOBS_FILE)
"""What a run writes into its folder, besides the log, up to the end of its first round."""


def check_writable(folder: str | Path, key: str) -> None:
    """Try to write to a folder, and leave nothing there.

    Raises:
        ConfigError: it can't be created or written to; names ``key``.
    """
    created = missing_folders(folder)
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"{key}: can't write to {folder} ({error.strerror}); choose a folder of yours with --{key}"
        ) from error
    finally:
        remove_empty(created)


def missing_folders(folder: str | Path) -> list[Path]:
    """Return the folder and those above it that don't exist yet, the innermost first."""
    return [path for path in (Path(folder).absolute(), *Path(folder).absolute().parents) if not path.exists()]


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove those of the folders that are there and empty."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def find_checkpoint(ckpt_path: str, root: str | Path) -> str:
    """Return the file that ``ckpt_path`` means: ``last`` and ``best`` are those of the newest ``<root>/version_k``.

    Raises:
        CheckpointError: no run below ``root`` has kept one of that name, or fedlight keeps none by that name.
    """
    if ckpt_path in FOREIGN_NAMES:
        raise CheckpointError(f"ckpt_path: fedlight keeps no {ckpt_path}; give last, best, or the path of a checkpoint")
    if ckpt_path not in NAMED_CHECKPOINTS:
        return ckpt_path
    files = Path(root).glob(f"version_*/checkpoints/{ckpt_path}.ckpt")
    runs = {version: path for path in files if (version := version_of(str(path), root)) is not None}
    if not runs:
        raise CheckpointError(
            f"ckpt_path: no run in {root} has kept a {ckpt_path} (version_k/checkpoints/{ckpt_path}.ckpt); give the "
            "path of a checkpoint, or the trainer.default_root_dir of the run"
        )
    return str(runs[max(runs)])


def version_of(ckpt_path: str | None, root: str | Path) -> int | None:
    """Return k if the checkpoint lies in ``<root>/version_k``, so that a resumed run goes on in its own folder."""
    if ckpt_path is None:
        return None
    path, top = Path(ckpt_path).resolve(), Path(root).resolve()
    if not path.is_relative_to(top):
        return None
    match = re.fullmatch(r"version_(\d+)", path.relative_to(top).parts[0])
    return int(match.group(1)) if match else None


def remove_unused(logger: Logger | None) -> None:
    """Remove the folder of a run that broke in its first round: it holds no checkpoint."""
    if not isinstance(logger, TensorBoardLogger):
        return
    folder = Path(logger.log_dir)
    files = [path.name for path in folder.rglob("*") if path.is_file()]
    if all(name.startswith("events.out.tfevents.") or name in RUN_NOTES for name in files) and folder.is_dir():
        logger.finalize("failed")
        shutil.rmtree(folder, ignore_errors=True)
