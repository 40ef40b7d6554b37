"""What clients and the server hold."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedlight.errors import DataError


class ClientData(ABC):
    """One client's private examples, seen through batches."""

    @property
    @abstractmethod
    def num_examples(self) -> int:
        """Number of examples."""

    @property
    @abstractmethod
    def num_batches(self) -> int:
        """Number of batches of one epoch."""

    @abstractmethod
    def epoch(self, generator: torch.Generator) -> Iterator[Any]:
        """Yield the batches of one epoch, each example once, in an order drawn from ``generator``."""

    def label_counts(self) -> Tensor | None:
        """Return int64[num_classes], the number of examples of each class; None where there are no class labels."""
        return None

    def in_order(self) -> Iterator[Any]:
        """Yield batches of all examples, unaugmented and always in one order, for an evaluation."""
        return self.epoch(torch.Generator().manual_seed(0))

    def halves(self) -> tuple[ClientData, ClientData]:
        """Return two halves that don't overlap, always the same: one to train on, one to judge by.

        Raises:
            DataError: this kind of data can't be halved.
        """
        raise DataError(
            f"the server's data are {type(self).__name__}, which can't be halved into examples to train on and to "
            "judge by: fill ClientData.halves"
        )


class FederatedData(ABC):
    """What the server knows of the data: who has how many, and how to reach a client's own (for simulation)."""

    @property
    @abstractmethod
    def num_examples(self) -> np.ndarray:
        """int64[num_clients]: number of training examples of every client."""

    @abstractmethod
    def client(self, client: int) -> ClientData:
        """Return the training data of one client."""

    @abstractmethod
    def server(self) -> ClientData | None:
        """Return the server's own held-out training examples, or None when it holds none."""


Summarise = Callable[[nn.Module, ClientData, int], Tensor]
"""Sums up a client's data in a few numbers, at the client: (its module, its data, the run's seed) to a tensor."""
