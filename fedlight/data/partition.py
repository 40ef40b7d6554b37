"""Who holds which example: the interface of partitions, and the uniform one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from fedlight.errors import ConfigError, DataError


@final
@dataclass(frozen=True)
class Assignment:
    """Examples by client, as one array: client k holds ``order[offsets[k]:offsets[k + 1]]``.

    One array and N + 1 offsets cost 4 bytes per example, and no Python object per client.

    Attributes:
        order: int32[n], positions of examples.
        offsets: int64[num_clients + 1], ascending from 0 to n.
        names: what every client is called in the data (a writer, a role), None where clients have no names.
        copy_of: int64[num_clients], the client whose examples a client holds: its own number, unless it is a duplicate;
            None where nobody is.
    """

    order: np.ndarray
    offsets: np.ndarray
    names: Sequence[str] | None = None
    copy_of: np.ndarray | None = None

    @property
    def sizes(self) -> np.ndarray:
        """int64[num_clients]: number of examples of every client."""
        return np.diff(self.offsets)

    def of(self, client: int) -> np.ndarray:
        """Return the positions of one client's examples, as a view."""
        return self.order[self.offsets[client] : self.offsets[client + 1]]


class Partition(ABC):
    """A rule that shares examples out among clients: a pure function of its arguments."""

    @property
    def column(self) -> str | None:
        """Column of the data set whose values ``assign`` gets as ``labels``; None: the class labels."""
        return None

    @abstractmethod
    def assign(
        self, labels: np.ndarray | None, num_examples: int, num_clients: int, rng: np.random.Generator
    ) -> Assignment:
        """Share ``num_examples`` examples out, each to exactly one client unless the rule says otherwise.

        Args:
            labels: int64[num_examples], class of every example, or its value of :attr:`column`; None where there are
                none.
            num_examples: number of examples to share out.
            num_clients: number of clients, >= 1.
            rng: the only source of randomness.

        Raises:
            DataError: the rule can't be kept; says what to change.
        """


@final
class IID(Partition):
    """Every client draws from the same distribution, in equal amounts (they differ by at most one example).

    Args:
        min_samples: least number of examples of a client, >= 1.
    """

    def __init__(self, min_samples: int = 1) -> None:
        self.min_samples = check_min_samples(min_samples)

    def assign(
        self, labels: np.ndarray | None, num_examples: int, num_clients: int, rng: np.random.Generator
    ) -> Assignment:
        """Share out a random permutation in equal pieces."""
        sizes = equal_sizes(num_examples, num_clients, self.min_samples)
        order = rng.permutation(num_examples).astype(np.int32)
        return Assignment(order, offsets_of(sizes))


def check_min_samples(min_samples: int) -> int:
    """Return ``min_samples`` if a client can train on so many, else raise ConfigError."""
    if min_samples < 1:
        raise ConfigError(f"data.partition.min_samples is {min_samples}: a client needs at least 1 example")
    return min_samples


def or_min_samples(min_samples: int) -> str:
    """Return `` or min_samples`` for advice on what to lower; empty where it is as low as it goes."""
    return "" if min_samples == 1 else " or min_samples"


def equal_sizes(num_examples: int, num_clients: int, min_samples: int) -> np.ndarray:
    """Return int64[num_clients], sizes that sum to ``num_examples`` and differ by at most one."""
    smallest, left_over = divmod(num_examples, num_clients)
    if smallest < min_samples:
        raise DataError(
            f"{num_examples} examples shared by {num_clients} clients give {smallest} each, below min_samples = "
            f"{min_samples}: set data.num_clients to at most {num_examples // min_samples}"
            f"{'' if min_samples == 1 else ', or lower min_samples'}"
        )
    sizes = np.full(num_clients, smallest, dtype=np.int64)
    sizes[:left_over] += 1
    return sizes


def offsets_of(sizes: np.ndarray) -> np.ndarray:
    """Return int64[num_clients + 1], where each client's share of the order begins, and the end."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def need_labels(labels: np.ndarray | None, rule: str) -> np.ndarray:
    """Return the labels, or raise DataError where a rule needs them and there are none."""
    if labels is None:
        raise DataError(
            f"partition {rule} shares examples out by class, but the data set has no class labels: use "
            "fedlight.data.IID, or give the Dataset a `targets` attribute with one integer per example"
        )
    return labels


def begin_by_class(
    labels: np.ndarray | None, num_clients: int, min_samples: int, rule: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what a partition by class starts from: the labels, equal sizes of clients, and the sizes of classes.

    Raises:
        DataError: there are no labels, or too few examples for ``min_samples`` each.
    """
    labels = need_labels(labels, rule)
    return labels, equal_sizes(len(labels), num_clients, min_samples), np.bincount(labels)


def assign_by_counts(counts: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Assignment:
    """Give every client its number of randomly drawn examples of each class, none twice.

    Args:
        counts: int64[num_clients, num_classes]; a column sums to the number of examples of its class.
        labels: int64[n], class of every example.
        rng: draws who gets which example of a class.
    """
    num_clients, num_classes = counts.shape
    shuffled = rng.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    owners = np.repeat(np.tile(np.arange(num_clients), num_classes), counts.T.ravel())
    order = by_class[np.argsort(owners, kind="stable")].astype(np.int32)
    return Assignment(order, offsets_of(counts.sum(axis=1)))
