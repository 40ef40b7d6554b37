"""How many clients a schedule sends off."""

from __future__ import annotations

from fedlight.errors import ConfigError


def checked_count(key: str, count: int | None, num_clients: int) -> int:
    """Return the number of clients that ``key`` asks for, all of them for None; raises ConfigError if it can't be."""
    count = num_clients if count is None else count
    if count < 1:
        raise ConfigError(f"{key}={count} trains nobody: use 1 or more, or leave it out for all clients")
    if count > num_clients:
        raise ConfigError(
            f"{key}={count} is larger than the fleet of num_clients={num_clients}: "
            f"lower {key} to {num_clients} or less, or raise data.num_clients"
        )
    return count
