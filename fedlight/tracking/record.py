"""Where callbacks read what a round did."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import lightning.pytorch as pl

from fedlight.core.round_record import RoundRecord
from fedlight.core.server import Server
from fedlight.errors import ConfigError


def server_of(module: pl.LightningModule) -> Server:
    """Return the module under the Trainer as the server that it is.

    Raises:
        ConfigError: if it is no :class:`fedlight.core.server.Server`.
    """
    if not hasattr(module, "last_round"):
        raise ConfigError(
            f"fedlight's callbacks follow a Server, the Trainer runs a {type(module).__name__}; "
            "wrap it as Server(client=..., algorithm=..., fleet=...)"
        )
    return cast("Server", module)


def last_round(module: pl.LightningModule) -> RoundRecord | None:
    """Return the record of the round that has just ended, None before the first.

    Raises:
        ConfigError: if the module under the Trainer is no server.
    """
    return server_of(module).last_round


def run_folder(trainer: pl.Trainer) -> Path:
    """Return the folder that a run writes into; ask on every process, since Lightning broadcasts it."""
    return Path(trainer.log_dir or trainer.default_root_dir)
