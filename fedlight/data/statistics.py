"""Who holds what, in numbers: amounts, mixes of classes, and how far they are from the whole's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import final

import numpy as np
import torch
from torch import Tensor

from fedlight.data.partition import Assignment

OVERLAP = 0.999
"""β of the effective number of examples."""


@final
@dataclass(frozen=True)
class PartitionStatistics:
    """The clients' training data in numbers, by the true labels.

    Attributes:
        sizes: int64[num_clients], number of examples.
        counts: int64[num_clients, num_classes], examples of each class; None where there are no class labels.
        class_names: name of every class, None where unknown.
        client_names: what every client is called in the data, None where clients have no names.
        copy_of: int64[num_clients], whose examples a client holds; None where nobody is a duplicate.
        levels: name of a corruption to float64[num_clients], how strongly each client is hit.
    """

    sizes: np.ndarray
    counts: np.ndarray | None = None
    class_names: Sequence[str] | None = None
    client_names: Sequence[str] | None = None
    copy_of: np.ndarray | None = None
    levels: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def num_clients(self) -> int:
        """Number of clients."""
        return len(self.sizes)

    @cached_property
    def shares(self) -> np.ndarray | None:
        """float64[num_clients, num_classes]: q_kc = n_kc / n_k; None where there are no class labels."""
        return None if self.counts is None else self.counts / self.counts.sum(axis=1, keepdims=True)

    @cached_property
    def whole(self) -> np.ndarray | None:
        """float64[num_classes]: p_c, shares of the classes over all clients' examples, duplicates counted once."""
        if self.counts is None:
            return None
        own = slice(None) if self.copy_of is None else self.copy_of == np.arange(self.num_clients)
        total = self.counts[own].sum(axis=0)
        shares: np.ndarray = total / total.sum()
        return shares

    @cached_property
    def js_distance(self) -> np.ndarray | None:
        """float64[num_clients] in [0, 1]: Jensen-Shannon distance of every client's mix of classes to the whole's.

        sqrt(H(m) - (H(q_k) + H(p)) / 2) with m = (q_k + p) / 2 and H in bits: 0 for the same mix, 1 for no class in
        common. Source: D. M. Endres, J. E. Schindelin, "A New Metric for Probability Distributions", IEEE Transactions
        on Information Theory 49(7), 2003.
        """
        if self.shares is None or self.whole is None:
            return None
        middle = (self.shares + self.whole) / 2
        divergence = _entropy(middle) - (_entropy(self.shares) + _entropy(self.whole)) / 2
        distance: np.ndarray = np.sqrt(np.clip(divergence / np.log(2), 0, 1))
        return distance

    @cached_property
    def effective_classes(self) -> np.ndarray | None:
        """float64[num_clients] in [1, num_classes]: exp(H(q_k)), as many classes in equal shares are as diverse.

        Source: M. O. Hill, "Diversity and Evenness", Ecology 54(2), 1973: the number N_1.
        """
        return None if self.shares is None else np.exp(_entropy(self.shares))

    @cached_property
    def effective_examples(self) -> np.ndarray | None:
        """float64[num_clients]: Σ_c (1 - β^n_kc) / (1 - β) with β = 0.999: more of a class adds less.

        Source: Y. Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, equation 2, summed
        over classes.
        """
        if self.counts is None:
            return None
        effective: np.ndarray = ((1 - OVERLAP**self.counts) / (1 - OVERLAP)).sum(axis=1)
        return effective

    @property
    def effective_clients(self) -> float:
        """(Σ n_k)² / Σ n_k² in [1, num_clients]: as many clients of equal size would average as much noise away.

        Source: L. Kish, "Survey Sampling", 1965, section 11.7, for means weighted by n_k.
        """
        sizes = self.sizes.astype(np.float64)
        return float(sizes.sum() ** 2 / np.square(sizes).sum())

    @property
    def gini(self) -> float:
        """Σ_k (2 k - N - 1) n_(k) / (N Σ n), n ascending: 0 where all hold the same, near 1 where one has all.

        Source: C. Gini, "Variabilità e mutabilità", 1912.
        """
        ranks = 2 * np.arange(1, self.num_clients + 1) - self.num_clients - 1
        return float((ranks * np.sort(self.sizes)).sum() / (self.num_clients * self.sizes.sum()))

    def names_of_classes(self) -> list[str]:
        """Return a name for every class: the data's own, else its number; none where there are no classes."""
        if self.counts is None:
            return []
        num_classes = self.counts.shape[1]
        names = self.class_names or ()
        return [str(names[label]) if label < len(names) else str(label) for label in range(num_classes)]

    def names_of_clients(self) -> list[str]:
        """Return what every client is called: its number, and its name in the data where it has one."""
        if self.client_names is None:
            return [str(client) for client in range(self.num_clients)]
        return [f"{client} {name}" for client, name in enumerate(self.client_names)]

    def columns(self) -> dict[str, np.ndarray | list[str]]:
        """Return one value per client by the name of what it says, in the order of ``clients.csv``."""
        columns: dict[str, np.ndarray | list[str] | None] = {
            "client": np.arange(self.num_clients),
            "name": None if self.client_names is None else list(self.client_names),
            "copy_of": self.copy_of,
            "examples": self.sizes,
            "js_distance": self.js_distance,
            "effective_classes": self.effective_classes,
            "effective_examples": self.effective_examples,
            **self.levels,
        }
        if self.counts is not None:
            columns |= {f"class_{name}": self.counts[:, label] for label, name in enumerate(self.names_of_classes())}
        return {name: column for name, column in columns.items() if column is not None}


def class_counts(assignment: Assignment, labels: Tensor, num_classes: int) -> np.ndarray:
    """Return int64[num_clients, num_classes], how many examples of each class every client holds."""
    num_clients = len(assignment.sizes)
    owners = torch.from_numpy(np.repeat(np.arange(num_clients), assignment.sizes))
    cells = owners * num_classes + labels.index_select(0, torch.from_numpy(assignment.order))
    counts: np.ndarray = torch.bincount(cells, minlength=num_clients * num_classes).numpy()
    return counts.reshape(num_clients, num_classes)


def _entropy(shares: np.ndarray) -> np.ndarray:
    """Return H = -Σ q ln q over the last axis, with 0 ln 0 = 0."""
    logs = np.log(shares, where=shares > 0, out=np.zeros_like(shares))
    entropy: np.ndarray = -(shares * logs).sum(axis=-1)
    return entropy
