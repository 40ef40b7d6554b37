"""Clients as the data have them: one writer, speaker or subject each."""

from __future__ import annotations

from typing import Literal, final

import numpy as np

from fedlight.data.partition import Assignment, Partition, check_min_samples, equal_sizes, offsets_of
from fedlight.errors import DataError


@final
class ByColumn(Partition):
    """Examples with the same value of a column (a writer, a speaker, a subject) stay together at one client.

    Every client gets one of the values that have at least ``min_samples`` examples, drawn at random. Where there are
    more values than clients, the others are dealt out in turn at random (``rest: merge``), so that clients hold the
    examples of several values; or nobody gets them (``rest: drop``).

    Source: S. Caldas et al., "LEAF: A Benchmark for Federated Settings", 2018 (arXiv 1812.01097), section 3, where
    clients are writers or speaking roles, and those with few examples are left out.

    Args:
        column: name of the column in the data set.
        min_samples: least number of examples of a client, >= 1.
        rest: what becomes of the values that are left over.
    """

    def __init__(self, column: str, min_samples: int = 1, rest: Literal["merge", "drop"] = "merge") -> None:
        self._column = column
        self.min_samples = check_min_samples(min_samples)
        self.rest = rest

    @property
    def column(self) -> str:
        """The column's name."""
        return self._column

    def assign(
        self, labels: np.ndarray | None, num_examples: int, num_clients: int, rng: np.random.Generator
    ) -> Assignment:
        """Deal the values out, then their examples."""
        if labels is None:
            raise DataError(f"partition ByColumn got no values of column {self._column!r}")
        equal_sizes(num_examples, num_clients, self.min_samples)
        values, value_of, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        usable = np.flatnonzero(sizes >= self.min_samples)
        if usable.size < num_clients:
            least = "" if self.min_samples == 1 else f" with at least {self.min_samples} examples"
            mend = "" if self.min_samples == 1 else ", or lower min_samples"
            raise DataError(
                f"data.num_clients is {num_clients}, but column {self._column!r} has {usable.size} values{least}, and "
                f"a client needs one: set data.num_clients to at most {usable.size}{mend}"
            )
        first = rng.permutation(usable)[:num_clients]
        others = rng.permutation(np.setdiff1d(np.arange(values.size), first))
        owner = np.full(values.size, num_clients)  # one past the last client: nobody
        owner[first] = np.arange(num_clients)
        if self.rest == "merge":
            owner[others] = np.arange(others.size) % num_clients
        order = np.argsort(owner[value_of], kind="stable").astype(np.int32)
        amounts = np.bincount(owner[value_of], minlength=num_clients)[:num_clients]
        num_values = np.bincount(owner, minlength=num_clients)[:num_clients]
        names = [
            f"{values[value]}" + (f" + {more} more" if more else "")
            for value, more in zip(first, num_values - 1, strict=True)
        ]
        return Assignment(order[: amounts.sum()], offsets_of(amounts), names)
