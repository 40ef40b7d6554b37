"""Where a run reads from and writes to, checked before anything is computed."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from lightning.pytorch.loggers import Logger, TensorBoardLogger

from fedlight.errors import CheckpointError, ConfigError

NAMED_CHECKPOINTS = ("best", "last", "hpc")
"""Values of ``ckpt_path`` that Lightning looks up itself."""


def check_writable(folder: str | Path, key: str) -> None:
    """Create a folder and try to write there.

    Raises:
        ConfigError: it can't be created or written to; names ``key``.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"{key}: can't write to {folder} ({error.strerror}); choose a folder of yours with --{key}"
        ) from error


def check_checkpoint_path(path: str | None) -> None:
    """Raise CheckpointError if a checkpoint is asked for that isn't there."""
    if path is not None and path not in NAMED_CHECKPOINTS and not Path(path).is_file():
        raise CheckpointError(
            f"ckpt_path: there is no file {path}; a run keeps its own as <logs>/checkpoints/last.ckpt"
        )


def version_of(ckpt_path: str | None, root: str | Path) -> int | None:
    """Return k if the checkpoint lies in ``<root>/version_k``, so that a resumed run goes on in its own folder."""
    if ckpt_path is None or ckpt_path in NAMED_CHECKPOINTS:
        return None
    path, top = Path(ckpt_path).resolve(), Path(root).resolve()
    if not path.is_relative_to(top):
        return None
    match = re.fullmatch(r"version_(\d+)", path.relative_to(top).parts[0])
    return int(match.group(1)) if match else None


def remove_unused(logger: Logger | None) -> None:
    """Remove the folder of a run that was refused before its first round: it holds TensorBoard's empty file only."""
    if not isinstance(logger, TensorBoardLogger):
        return
    folder = Path(logger.log_dir)
    files = [path for path in folder.rglob("*") if path.is_file()]
    if files and all(path.name.startswith("events.out.tfevents.") for path in files):
        logger.finalize("failed")
        shutil.rmtree(folder, ignore_errors=True)
