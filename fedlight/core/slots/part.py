"""What every choice for a slot has."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from typing import Any


class Part(ABC):  # noqa: B024 - the slots below add the abstract methods
    """A choice for one slot; what it remembers between rounds is explicit and travels in the checkpoint."""

    needs_server_data: bool = False
    """Whether it asks :attr:`~fedlight.core.types.RoundState.desk`; refused at start where the server holds no data."""

    def asks_server_data(self) -> Part:
        """Return whom :attr:`needs_server_data` is about: the innermost part of a part that needs them, or this one."""
        inner = (part for part in vars(self).values() if isinstance(part, Part) and part.needs_server_data)
        asker = next(inner, None)
        return self if asker is None else asker.asks_server_data()

    def meet(self, parts: Mapping[str, Part]) -> None:  # noqa: B027 - most parts don't care who the others are
        """Get to know the algorithm's parts, by slot, once before the first round.

        Raises:
            ConfigError: a part that this one works with is of another kind.
        """

    def forget(self, clients: Sequence[int]) -> None:  # noqa: B027 - most parts keep nothing of single clients
        """Drop what is kept of clients that have expired (``model.state_ttl_s``): should they return, they are new."""

    def state_dict(self) -> dict[str, Any]:
        """Return what must survive a restart: tensors and plain values only."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - parts without memory have nothing to load
        """Take back what :meth:`state_dict` returned."""

    def metrics(self) -> dict[str, float]:
        """Return scalars to log after a round, by TensorBoard tag."""
        return {}
