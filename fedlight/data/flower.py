"""Partitioners of the flwr-datasets package."""

from __future__ import annotations

import importlib
import inspect
from typing import Any, final

import numpy as np

from fedlight.data.partition import Assignment, Partition, offsets_of
from fedlight.data.source import reason_of
from fedlight.errors import ConfigError, DataError

LABEL = "label"
"""Column under which a partitioner finds the class labels."""


@final
class FlowerPartition(Partition):
    """A partitioner of the package flwr-datasets, which has to be installed.

    The number of partitions and the seed are those of the run, and ``partition_by`` is the class label, where the
    partitioner takes them and ``arguments`` doesn't set them; naming a column of the data set as ``partition_by`` gives
    natural partitions. The package hands out one partition at a time, so expect seconds per thousand clients.

    Source: https://flower.ai/docs/datasets/ref-api/flwr_datasets.partitioner.html.

    Args:
        name: class in ``flwr_datasets.partitioner``, such as PathologicalPartitioner.
        arguments: its arguments, by name.
    """

    def __init__(self, name: str, arguments: dict[str, Any] | None = None) -> None:
        self.name = name
        self.arguments = dict(arguments or {})

    @property
    def column(self) -> str | None:
        """The column that ``arguments.partition_by`` names; None for the class labels."""
        wanted = self.arguments.get("partition_by")
        return None if wanted in (None, LABEL) else str(wanted)

    def assign(
        self, labels: np.ndarray | None, num_examples: int, num_clients: int, rng: np.random.Generator
    ) -> Assignment:
        """Hand the labels over, and ask for every partition."""
        kind = self._find()
        arguments = dict(self.arguments)
        own = {"num_partitions": num_clients, "partition_by": LABEL, "seed": int(rng.integers(2**31))}
        accepted = inspect.signature(kind).parameters
        arguments = {name: value for name, value in own.items() if name in accepted} | arguments
        columns: dict[str, Any] = {"position": np.arange(num_examples)}
        if labels is not None:
            columns[self.column or LABEL] = labels
        elif "partition_by" in accepted:
            raise DataError(
                f"partition {self.name} shares examples out by class, but the data set has no class labels: name a "
                "column in arguments.partition_by, or use IidPartitioner"
            )
        try:
            parts = _load(kind(**arguments), columns, num_clients)
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            raise DataError(
                f"{self.name} of flwr-datasets refuses ({reason_of(error)}): change data.partition.arguments or "
                "data.num_clients"
            ) from error
        sizes = np.array([len(part) for part in parts])
        return Assignment(np.concatenate(parts).astype(np.int32), offsets_of(sizes))

    def _find(self) -> type[Any]:
        try:
            partitioner = importlib.import_module("flwr_datasets.partitioner")
        except ImportError as error:
            raise ConfigError(
                f"data.partition names {self.name} of flwr-datasets, which can't be imported ({reason_of(error)}): run "
                "pip install flwr-datasets, or use a partition of fedlight.data"
            ) from error
        known = [name for name, one in vars(partitioner).items() if _is_usable(one, partitioner.Partitioner)]
        if self.name not in known:
            raise ConfigError(
                f"flwr_datasets.partitioner has no usable class {self.name!r}: data.partition.name is one of "
                f"{', '.join(sorted(known))}"
            )
        found: type[Any] = getattr(partitioner, self.name)
        return found


def _is_usable(kind: object, base: type) -> bool:
    """Whether a partitioner shares examples out; vertical ones share out features."""
    if not isinstance(kind, type) or not issubclass(kind, base) or inspect.isabstract(kind):
        return False
    return "Vertical" not in kind.__name__


def _load(partitioner: Any, columns: dict[str, Any], num_clients: int) -> list[np.ndarray]:
    """Return the positions of every partition's examples."""
    partitioner.dataset = importlib.import_module("datasets").Dataset.from_dict(columns)
    if partitioner.num_partitions != num_clients:
        raise ValueError(f"it makes {partitioner.num_partitions} partitions, but there are {num_clients} clients")
    return [np.asarray(partitioner.load_partition(client)["position"], dtype=np.int64) for client in range(num_clients)]
