"""Where data come from."""

from __future__ import annotations

from abc import ABC, abstractmethod

from fedlight.data.examples import Splits


class Source(ABC):
    """A data set that a config names by class path."""

    def prepare(self) -> None:  # noqa: B027 - data on disk need no preparation
        """Fetch what is missing; called by one process only. Raises DataError when that fails."""

    @abstractmethod
    def load(self) -> Splits:
        """Read the data; called by every process. Raises DataError when they are missing or don't fit."""


def reason_of(error: Exception) -> str:
    """Return the first line of what an error says, without the path that it repeats."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return text.splitlines()[0].rstrip(":")
