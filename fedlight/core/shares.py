"""Shares of a population, as a user gives them: fractions, or counts."""

from __future__ import annotations

from collections.abc import Sequence

from fedlight.errors import ConfigError


def check_shares(names: Sequence[str], shares: Sequence[float], what: str) -> None:
    """Raise ConfigError if shares look like fractions (none above 1, some between 0 and 1) and don't sum to 1.

    Args:
        names: of what the shares are, as messages say it.
        shares: numbers >= 0, as many.
        what: begins the message, for example ``model.fleet: the shares of the device classes``.
    """
    total = sum(shares)
    if max(shares) <= 1 and any(0 < share < 1 for share in shares) and abs(total - 1) > 1e-6:
        told = ", ".join(f"{name} {share:g}" for name, share in zip(names, shares, strict=True))
        raise ConfigError(
            f"{what} sum to {total:.6g} ({told}): give fractions that sum to 1, or counts (7, 7, 6), which may sum to "
            "anything"
        )
