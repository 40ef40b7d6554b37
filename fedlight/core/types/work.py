"""What a client is asked to do in a round, and how long it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Work:
    """What a client is asked to do in one round.

    Attributes:
        macs: multiply-accumulates of its training: 3 x forward MACs x examples (backward costs twice the forward).
        download_bytes: size of the submodel as it is sent.
        upload_bytes: size of the update as it comes back.
    """

    macs: float
    download_bytes: int
    upload_bytes: int


class Price(Protocol):
    """What is asked of a client if it gets a submodel at a ratio.

    Args:
        client: the client's number.
        ratio: pruning ratio.
        share: fraction of the local work.
        level: fraction of the update's entries that it sends.
    """

    def __call__(self, client: int, ratio: float, share: float = 1.0, level: float = 1.0) -> Work:
        """Return the work."""


@dataclass(frozen=True)
class Timing:
    """Simulated seconds of one client's round."""

    download_s: float
    compute_s: float
    upload_s: float

    @property
    def total_s(self) -> float:
        """Download, then compute, then upload."""
        return self.download_s + self.compute_s + self.upload_s
