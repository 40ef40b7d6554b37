"""Reading a checkpoint file, and saying what is wrong with one that can't be used."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from fedlight.errors import CheckpointError


def read_checkpoint_file(path: str, key: str, otherwise: str = "") -> dict[str, Any]:
    """Return what a checkpoint of fedlight holds; tensors stay on disk until they are read.

    Args:
        path: the file.
        key: the option that named it, as messages say it.
        otherwise: another way out, for who has a checkpoint of something else.

    Raises:
        CheckpointError: it is missing, unreadable, or no checkpoint of fedlight; names the file.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"{key}: there is no file {path}; a run keeps its own as <logs>/checkpoints/last.ckpt")
    try:
        # A checkpoint of ours holds tensors and plain values; whatever else is in a file is not executed.
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(
            f"{key}: {path} is no checkpoint of tensors and plain values; give one that fedlight fit has written"
        ) from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("fedlight"), dict):
        raise CheckpointError(
            f"{key}: {path} is no checkpoint of fedlight; give one that fedlight fit has written{otherwise}"
        )
    return checkpoint
