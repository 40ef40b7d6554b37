"""Which entries of the global model a submodel holds; the one seam through which updates come back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor

State = Mapping[str, Tensor]


class Coverage(ABC):
    """Which entries of every tensor of the global model a client holds, and how its tensors map to them.

    ``state`` means a whole state dict of the model: the names and shapes of ``Structure.shapes``, no more and no less.
    Every method raises :class:`~fedlight.errors.CheckpointError` for a name or a shape that the model doesn't have.
    Integer buffers are tensors like any other here: no unit owns them, so they pass through as they are.

    Attributes:
        keep: bool[num_units], the units that the client's network has.
        masks: bool masks by tensor name, True = covered, where coverage is by weights; else None.
    """

    keep: Tensor
    masks: Mapping[str, Tensor] | None

    @property
    @abstractmethod
    def is_full(self) -> bool:
        """Whether every entry is covered."""

    @abstractmethod
    def slice(self, state: State) -> dict[str, Tensor]:
        """Copy what the client gets out of the global state; bit-exact."""

    @abstractmethod
    def regrow(self, thin: State, base: State) -> dict[str, Tensor]:
        """Copy ``base`` and put the client's entries where they came from; bit-exact, ``base`` elsewhere."""

    @abstractmethod
    def gather(self, name: str, full: Tensor) -> Tensor:
        """Copy the covered entries of one full tensor, in the client's shape."""

    @abstractmethod
    def scatter_add_(self, name: str, total: Tensor, value: Tensor, weight: float) -> None:
        """Add in place: ``total[covered] += weight * value``, in the precision of ``total``.

        Args:
            name: name of the tensor in the state dict.
            total: contiguous, full shape, float.
            value: client's shape.
            weight: weight of the client.
        """

    @abstractmethod
    def count_shape(self, name: str) -> tuple[int, ...]:
        """Shape of the counts of one tensor: broadcasts to its full shape, the same for every client."""

    @abstractmethod
    def count_add_(self, name: str, counts: Tensor, weight: float) -> None:
        """Add in place: ``counts[covered] += weight``, with contiguous ``counts`` of :meth:`count_shape`."""

    @abstractmethod
    def thin_shape(self, name: str) -> tuple[int, ...]:
        """Shape that the client has for one tensor."""

    @abstractmethod
    def layer_sparsity(self) -> dict[str, float]:
        """Fraction of each layer that is removed, in [0, 1), by layer; layers without an entry lose nothing."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values: food of :func:`~fedlight.submodels.coverage.coverage_from_state`."""
