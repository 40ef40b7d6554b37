"""How the server lends its Trainer to the user's module, and what it needs of that module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from fedlight.errors import ConfigError


def example_inputs(module: pl.LightningModule) -> tuple[Any, ...]:
    """Return the module's ``example_input_array`` as the tuple of forward's arguments.

    Raises:
        ConfigError: if the module has none.
    """
    inputs = module.example_input_array
    if inputs is None:
        raise ConfigError(
            f"{type(module).__name__} has no example input, so its structure can't be traced; set "
            "self.example_input_array in its __init__ to a batch of two, for example torch.zeros(2, 1, 28, 28)"
        )
    if isinstance(inputs, Tensor):
        return (inputs,)
    return tuple(inputs.values()) if isinstance(inputs, dict) else tuple(inputs)


@contextmanager
def speaking_for(client: pl.LightningModule, server: pl.LightningModule) -> Iterator[None]:
    """Let ``client.log`` log through the server's Trainer, as part of the hook that the server is in."""
    before = client._current_fx_name
    client.trainer = server.trainer
    client._current_fx_name = server._current_fx_name
    try:
        yield
    finally:
        client._current_fx_name = before


@contextmanager
def muted(client: pl.LightningModule) -> Iterator[None]:
    """Let ``client.log`` and ``client.log_dict`` do nothing."""
    names = ("log", "log_dict")
    for name in names:
        object.__setattr__(client, name, lambda *args, **kwargs: None)
    try:
        yield
    finally:
        for name in names:
            object.__delattr__(client, name)
