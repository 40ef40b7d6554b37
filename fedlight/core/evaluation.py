"""How the server lends its Trainer to the user's module, and what it needs of that module."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor

from fedlight.errors import ConfigError, DataError, UnsupportedClientError

TRANSFER_HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
"""Hooks of every batch; the server's own batch, the one of a round, is not the client's."""

LENT_HOOKS = (
    *TRANSFER_HOOKS,
    *(
        name
        for stage in ("validation", "test")
        for name in (
            f"{stage}_step",
            f"on_{stage}_epoch_start",
            f"on_{stage}_batch_start",
            f"on_{stage}_batch_end",
            f"on_{stage}_epoch_end",
            f"on_{stage}_end",
        )
    ),
)
"""Hooks of an evaluation that the server has from the client as they are."""

REFUSED_HOOKS = (
    "on_validation_model_eval",
    "on_validation_model_train",
    "on_validation_model_zero_grad",
    "on_test_model_eval",
    "on_test_model_train",
    "on_save_checkpoint",
    "on_load_checkpoint",
)
"""Hooks that would act on the server's mode or checkpoint, which are not the client's."""


def example_call(module: pl.LightningModule) -> tuple[Any, ...] | dict[str, Any]:
    """Return the module's ``example_input_array``: forward's arguments as a tuple, or as a dict by keyword.

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
    return dict(inputs) if isinstance(inputs, Mapping) else tuple(inputs)


def example_inputs(module: pl.LightningModule) -> tuple[Any, ...]:
    """Return the module's example inputs in the order of forward's arguments, for who can pass them only by position.

    Raises:
        ConfigError: if the module has none, or forward takes some of them by keyword only.
    """
    return _by_position(module, example_call(module))


def batch_call(module: pl.LightningModule, batch: Any) -> tuple[Any, ...] | dict[str, Any]:
    """Return the inputs in a batch as forward's arguments: a tuple, or a dict by keyword.

    Of a tuple or list they are the first items, as many as there are example inputs; of a dict those under the names of
    forward's arguments that the example inputs fill. Any other batch is the input itself, and so is a dict that lacks
    such a name where the example inputs have no keywords.

    Raises:
        DataError: a dict lacks one of the keywords of the example inputs.
    """
    examples = example_call(module)
    if not isinstance(batch, Mapping):
        return tuple(batch[: len(examples)]) if isinstance(batch, list | tuple) else (batch,)
    if isinstance(examples, tuple):
        names = list(inspect.signature(module.forward).parameters)[: len(examples)]
        return {name: batch[name] for name in names} if batch.keys() >= set(names) else (batch,)
    missing = [name for name in examples if name not in batch]
    if missing:
        raise DataError(
            f"the data's batches are dicts without {', '.join(map(repr, missing))}, which "
            f"{type(module).__name__}.example_input_array names: use the same keys in both"
        )
    return {name: batch[name] for name in examples}


def batch_inputs(module: pl.LightningModule, batch: Any) -> tuple[Any, ...]:
    """Return :func:`batch_call` in the order of forward's arguments, as :func:`example_inputs` does."""
    return _by_position(module, batch_call(module, batch))


def run_forward(module: pl.LightningModule, batch: Any) -> Any:
    """Call ``module`` on the inputs in a batch, as :func:`batch_call` finds them."""
    inputs = batch_call(module, batch)
    return module(**inputs) if isinstance(inputs, dict) else module(*inputs)


def _by_position(module: pl.LightningModule, inputs: tuple[Any, ...] | dict[str, Any]) -> tuple[Any, ...]:
    if isinstance(inputs, tuple):
        return inputs
    bound = inspect.signature(module.forward).bind(**inputs)
    if bound.kwargs:
        raise ConfigError(
            f"{type(module).__name__}.forward can't take {', '.join(bound.kwargs)} by position; order its arguments so "
            "that those in example_input_array come first, without * before them"
        )
    return bound.args


def lend_hooks(client: pl.LightningModule, server: pl.LightningModule) -> None:
    """Give ``server`` the evaluation hooks that ``client`` overrides, under the client's own signatures.

    A hook that the client leaves alone stays Lightning's on the server too, so that the Trainer sees which steps there
    are, which arguments they take, and says what it would say of the client.
    """
    for name in LENT_HOOKS:
        if not is_overridden(name, client, pl.LightningModule):
            continue
        hook = getattr(client, name)
        lent = partial(_call_transfer if name in TRANSFER_HOOKS else call_hook, client, server, name)
        function = getattr(hook, "__func__", hook)
        # By this Lightning reads the signature, to leave out batch_idx or to demand dataloader_idx.
        lent.__wrapped__ = getattr(function, "__wrapped__", function)  # type: ignore[attr-defined]
        setattr(server, name, lent)


def call_hook(client: pl.LightningModule, server: pl.LightningModule, name: str, *args: Any) -> Any:
    """Call a hook of ``client`` within the same hook of ``server``; what it logs is logged by the server's Trainer."""
    with speaking_for(client, server):
        return getattr(client, name)(*args)


def _call_transfer(client: pl.LightningModule, server: pl.LightningModule, name: str, *args: Any) -> Any:
    if server.trainer.training:
        return getattr(pl.LightningModule, name)(server, *args)
    return call_hook(client, server, name, *args)


def refuse_unheard(client: pl.LightningModule) -> None:
    """Raise UnsupportedClientError if ``client`` overrides a hook that nobody would call (:data:`REFUSED_HOOKS`)."""
    for name in REFUSED_HOOKS:
        if is_overridden(name, client, pl.LightningModule):
            raise UnsupportedClientError(
                f"{type(client).__name__} overrides {name}, but the mode and the checkpoint of a federated run are "
                "the server's: leave it out, or do the same in a callback of the Trainer"
            )


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
