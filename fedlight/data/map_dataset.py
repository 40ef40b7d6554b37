"""Any Dataset of the user's."""

from __future__ import annotations

from typing import final

from torch.utils.data import Dataset

from fedlight.data.examples import DatasetExamples, Splits
from fedlight.data.source import Source


@final
class MapDataset(Source):
    """Map-style Datasets by class path, read example by example and put together by ``default_collate``.

    Partitions by class need a ``targets`` (or ``labels``) attribute with one integer per example on the training
    Dataset; class names are taken from its ``classes``, where it has them. A random transform in a Dataset draws from
    torch's global generator, which each client seeds before it trains.

    Args:
        train: examples for clients, server and validation to share.
        test: the test set; None for none.
        val: a validation split of its own; None to hold examples back from ``train``.
    """

    # Bare Dataset: of subclasses of Dataset[Any] jsonargparse doesn't see the arguments.
    def __init__(
        self,
        train: Dataset,  # type: ignore[type-arg]
        test: Dataset | None = None,  # type: ignore[type-arg]
        val: Dataset | None = None,  # type: ignore[type-arg]
    ) -> None:
        self.train = train
        self.test = test
        self.val = val

    def load(self) -> Splits:
        """Wrap the Datasets."""
        names = getattr(self.train, "classes", None)
        return Splits(
            train=DatasetExamples(self.train),
            test=None if self.test is None else DatasetExamples(self.test),
            val=None if self.val is None else DatasetExamples(self.val),
            class_names=None if names is None else [str(name) for name in names],
        )
