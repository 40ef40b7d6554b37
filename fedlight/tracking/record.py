"""Where callbacks read what a round did."""

from __future__ import annotations

from typing import cast

import lightning.pytorch as pl

from fedlight.core.round_record import RoundRecord
from fedlight.errors import ConfigError


def last_round(module: pl.LightningModule) -> RoundRecord | None:
    """Return the record of the round that has just ended, None before the first.

    Raises:
        ConfigError: if the module under the Trainer is no :class:`fedlight.core.server.Server`.
    """
    if not hasattr(module, "last_round"):
        raise ConfigError(
            f"fedlight's callbacks follow a Server, the Trainer runs a {type(module).__name__}; "
            "wrap it as Server(client=..., algorithm=..., fleet=...)"
        )
    return cast("RoundRecord | None", module.last_round)
