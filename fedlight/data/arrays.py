"""Data in memory: NumPy archives, and how arrays become examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from fedlight.data.examples import Splits, TensorExamples
from fedlight.data.source import Source, reason_of
from fedlight.errors import DataError

Pair = tuple[Any, Any]
"""Inputs and targets, as arrays or tensors."""

CHUNK = 4096
"""Images that are turned into floats at a time when mean and spread are measured."""


@final
class Npz(Source):
    """Arrays of one ``.npz`` file, by key.

    uint8 arrays of shape [n, H, W] or [n, H, W, C] are images: they become [n, C, H, W], scaled to [0, 1], less the
    mean and divided by the standard deviation per channel of the training images. Other inputs are taken as they are,
    floats as float32. Integer targets of shape [n] or [n, 1] are class labels; float targets are for regression.

    Args:
        path: the file.
        x_train: key of the training inputs.
        y_train: key of the training targets.
        x_test: key of the test inputs; None where the file holds no test set.
        y_test: key of the test targets.
        x_val: key of the validation inputs, where the file has a validation split of its own.
        y_val: key of the validation targets.
        columns: keys of further arrays of shape [n], one value per training example, that natural partitions can go
            by (a writer, a subject).
    """

    def __init__(
        self,
        path: str,
        x_train: str = "x_train",
        y_train: str = "y_train",
        x_test: str | None = "x_test",
        y_test: str | None = "y_test",
        x_val: str | None = None,
        y_val: str | None = None,
        columns: list[str] | None = None,
    ) -> None:
        self.path = path
        self.train_keys = (x_train, y_train)
        self.test_keys = (x_test, y_test)
        self.val_keys = (x_val, y_val)
        self.columns = list(columns or [])

    def load(self) -> Splits:
        """Read the arrays that the keys name."""
        path = Path(self.path).expanduser()
        try:
            archive = np.load(path, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise DataError(f"{path} holds one array: save inputs and targets together by np.savez")
            with archive:
                return splits_of(
                    self._read(archive, *self.train_keys),
                    self._read_if_named(archive, *self.test_keys),
                    self._read_if_named(archive, *self.val_keys),
                    columns={key: self._array(archive, key) for key in self.columns},
                )
        except (OSError, ValueError, EOFError, BadZipFile) as error:
            raise DataError(
                f"can't read {path} as an .npz file of plain arrays ({reason_of(error)}): check dataset.path"
            ) from error

    def _read_if_named(self, archive: Any, x_key: str | None, y_key: str | None) -> Pair | None:
        return None if x_key is None or y_key is None else self._read(archive, x_key, y_key)

    def _read(self, archive: Any, x_key: str, y_key: str) -> Pair:
        return self._array(archive, x_key), self._array(archive, y_key)

    def _array(self, archive: Any, key: str) -> Any:
        if key not in archive.files:
            raise DataError(
                f"{self.path} has no array {key!r}, only {', '.join(archive.files)}: name the right key (x_train, "
                "y_train, x_test, y_test, columns), or null for a test set that isn't there"
            )
        return archive[key]


def splits_of(
    train: Pair,
    test: Pair | None,
    val: Pair | None = None,
    class_names: Sequence[str] | None = None,
    columns: Mapping[str, Any] | None = None,
) -> Splits:
    """Turn pairs of arrays (inputs, targets) into examples, images normalised by the training images.

    ``columns`` hold one value per training example each, by name.
    """
    inputs = input_tensor(train[0])
    mean, std = mean_and_std(inputs) if inputs.dtype == torch.uint8 else (None, None)

    def examples(pair: Pair) -> TensorExamples:
        return TensorExamples(input_tensor(pair[0]), target_tensor(pair[1]), mean, std)

    return Splits(
        train=TensorExamples(inputs, target_tensor(train[1]), mean, std, columns),
        test=None if test is None else examples(test),
        val=None if val is None else examples(val),
        class_names=class_names,
    )


def input_tensor(array: Any) -> Tensor:
    """Return inputs as a tensor: uint8 images as [n, C, H, W], floats as float32, other integers as int64."""
    array = np.asarray(array)
    if array.dtype == np.uint8 and array.ndim in (3, 4):
        if array.ndim == 3:
            array = array[:, None]
        elif array.shape[-1] in (1, 3, 4):
            array = array.transpose(0, 3, 1, 2)
        return torch.from_numpy(np.ascontiguousarray(array))
    dtype = np.float32 if array.dtype == np.uint8 or np.issubdtype(array.dtype, np.floating) else np.int64
    return torch.from_numpy(np.ascontiguousarray(array, dtype=dtype))


def target_tensor(array: Any) -> Tensor:
    """Return targets as int64 (a trailing dimension of one is dropped) or float32."""
    array = np.asarray(array)
    if np.issubdtype(array.dtype, np.floating):
        return torch.from_numpy(array.astype(np.float32))
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    return torch.from_numpy(array.astype(np.int64))


def mean_and_std(images: Tensor) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation per channel of uint8 images [n, C, H, W], scaled to [0, 1]."""
    channels = images.shape[1]
    total = torch.zeros(channels, dtype=torch.float64)
    squares = torch.zeros(channels, dtype=torch.float64)
    for part in torch.split(images, CHUNK):
        values = part.float() / 255
        total += values.mean(dim=(2, 3)).double().sum(0)
        squares += values.square_().mean(dim=(2, 3)).double().sum(0)
    mean = total / len(images)
    # A channel without contrast has nothing to scale: 1 keeps it at 0.
    variance = (squares / len(images) - mean.square()).clamp_min(0)
    std = torch.where(variance > 1e-10, variance.sqrt(), 1.0)
    return mean.tolist(), std.tolist()
