"""torchvision's image data sets, read into memory once."""

from __future__ import annotations

import importlib
import inspect
from contextlib import suppress
from pathlib import Path
from typing import Any, final

from fedlight.data.arrays import splits_of
from fedlight.data.examples import Splits
from fedlight.data.source import Source, reason_of
from fedlight.errors import DataError


@final
class TorchvisionImages(Source):
    """A data set of torchvision whose images have one size, such as MNIST, FashionMNIST, CIFAR10, CIFAR100 or SVHN.

    Images are held as uint8 [n, C, H, W]; a batch is scaled to [0, 1], less the mean and divided by the standard
    deviation per channel of the training images. Data sets that read one file per image go through
    :class:`~fedlight.data.MapDataset` with transforms of your own.

    Args:
        name: class in ``torchvision.datasets``, or the class path of one built like them.
        root: folder that holds the data, or is to hold them.
        download: whether to fetch what is missing.
    """

    def __init__(self, name: str = "FashionMNIST", root: str = "data", download: bool = True) -> None:
        self.name = name
        self.root = root
        self.download = download

    def prepare(self) -> None:
        """Download what is missing, if wanted."""
        if self.download:
            self._open(train=True, download=True)
            self._open(train=False, download=True)

    def load(self) -> Splits:
        """Read both splits into memory."""
        train, test = self._open(train=True, download=False), self._open(train=False, download=False)
        names = getattr(train, "classes", None)
        return splits_of(self._arrays(train), self._arrays(test), class_names=None if names is None else list(names))

    def _open(self, *, train: bool, download: bool) -> Any:
        dataset_class = self._find_class()
        arguments = inspect.signature(dataset_class).parameters
        if "train" in arguments:
            split: dict[str, Any] = {"train": train}
        elif "split" in arguments:
            split = {"split": "train" if train else "test"}
        else:
            raise DataError(f"{self.name} takes neither `train` nor `split`: use fedlight.data.MapDataset for it")
        root = Path(self.root).expanduser()
        before = _folders_below(root)
        try:
            return dataset_class(str(root), download=download, **split)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{self.name} doesn't open as {dataset_class.__name__}(root, {next(iter(split))}=..., download=...) "
                f"({reason_of(error)}): use fedlight.data.MapDataset for it"
            ) from error
        except (OSError, RuntimeError) as error:
            reason = reason_of(error)
            if download:
                _remove_empty(root, before)
                raise DataError(
                    f"can't download {self.name} to {root} ({reason}): check the network, or put the files there "
                    "and set dataset.download: false"
                ) from error
            raise DataError(
                f"{self.name} isn't complete under {root} ({reason}): set dataset.download: true, or dataset.root to "
                "the folder that holds it"
            ) from error

    def _find_class(self) -> type[Any]:
        module_name, _, class_name = self.name.rpartition(".")
        try:
            module = importlib.import_module(module_name or "torchvision.datasets")
            found: type[Any] = getattr(module, class_name)
        except (ImportError, AttributeError) as error:
            raise DataError(
                f"no data set class {self.name!r}: dataset.name is a class of torchvision.datasets, such as CIFAR10, "
                "or a full class path"
            ) from error
        return found

    def _arrays(self, dataset: Any) -> tuple[Any, Any]:
        images = getattr(dataset, "data", None)
        targets = getattr(dataset, "targets", None)
        if targets is None:
            targets = getattr(dataset, "labels", None)
        if images is None or targets is None:
            raise DataError(
                f"{self.name} doesn't hold its images and labels in memory: use fedlight.data.MapDataset for it, "
                "with a transform that gives all images one size"
            )
        return images, targets


def _folders_below(root: Path) -> set[Path]:
    """Return the folders that are there: above the root, itself, and two levels below it, as deep as downloads go."""
    below = (path for pattern in ("*", "*/*") for path in root.glob(pattern))
    return {path for path in (root, *root.parents, *below) if path.is_dir()}


def _remove_empty(root: Path, before: set[Path]) -> None:
    """Remove what a download has made that failed before its first file: folders that weren't there, and are empty."""
    for folder in sorted(_folders_below(root) - before, key=lambda path: len(path.parts), reverse=True):
        with suppress(OSError):
            folder.rmdir()
