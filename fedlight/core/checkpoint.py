"""What a checkpoint holds besides the weights, and how a run takes it back."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from fedlight.core.slots import Part
from fedlight.core.types import FederatedData
from fedlight.errors import CheckpointError
from fedlight.submodels.inputs import first_line

if TYPE_CHECKING:
    from fedlight.core.server import Server

VERSION = 2
"""Format of ``checkpoint["fedlight"]``."""


def write_checkpoint(server: Server) -> dict[str, Any]:
    """Return the server's own part of a checkpoint: tensors and plain values only."""
    return {
        "version": VERSION,
        "algorithm": server.algorithm.name,
        "plan": server.plan.fingerprint,
        "round_idx": server.round_idx,
        "contributions": dict(server.contributions),
        "seed": server.seed,
        "made_of": _made_of(server),
        "slots": {slot: part.state_dict() for slot, part in server.algorithm.slots().items()},
        "fleet": server.fleet.state_dict(),
        "clock": server.clock.state_dict(),
        "memory": server.memory.state_dict(),
        "expiry": server.expiry.state_dict(),
        "config": server.run_config,
    }


def read_checkpoint(server: Server, checkpoint: Mapping[str, Any]) -> None:
    """Take back what :func:`write_checkpoint` wrote.

    Raises:
        CheckpointError: if it is no fedlight checkpoint, of another architecture, or (when training goes on) of
            another algorithm, seed, part, fleet or partition, or a part can't take back what is saved.
    """
    saved = checkpoint.get("fedlight")
    if saved is None:
        raise CheckpointError("this is no fedlight checkpoint; to start from its weights pass it as model.init_weights")
    if saved["version"] != VERSION:
        raise CheckpointError(
            f"the checkpoint has format {saved['version']}, this fedlight reads {VERSION}; "
            "start from its weights with model.init_weights"
        )
    if saved["plan"] != server.plan.fingerprint:
        raise CheckpointError(
            f"the checkpoint is of another architecture than {type(server.client).__name__} as configured "
            f"({_first_difference(checkpoint['state_dict'], server.state_dict())}); "
            "use the configuration of that run, saved as config.yaml beside it"
        )
    if not server.trainer.training:
        return
    theirs = {"algorithm": saved["algorithm"], "seed": saved["seed"], **saved.get("made_of", {})}
    for key, mine in {"algorithm": server.algorithm.name, "seed": server.seed, **_made_of(server)}.items():
        if theirs.get(key, mine) != mine:
            raise CheckpointError(
                f"the checkpoint is of a run with {key} {theirs[key]}, this one has {mine}; resume with the "
                "configuration of that run (config.yaml beside the checkpoint), or pass the checkpoint as "
                "model.init_weights to start a new run from its weights"
            )
    for slot, part in server.algorithm.slots().items():
        _restore(slot, part, saved["slots"][slot])
    _restore("fleet", server.fleet, saved["fleet"])
    server.clock.load_state_dict(saved["clock"], server.plan.structure)
    server.memory.load_state_dict(saved["memory"])
    server.expiry.load_state_dict(saved.get("expiry", {"heard_s": {}}))
    server.round_idx = saved["round_idx"]
    server.contributions = dict(saved.get("contributions", {}))


def _made_of(server: Server) -> dict[str, str]:
    """Return what a resumed run must share with the one it goes on with: class of every part and of the fleet, data.

    Compositions by hand are all of one class, so the algorithm's name doesn't tell them apart.
    """
    made_of = {f"algorithm.{slot}": _class_path(part) for slot, part in server.algorithm.slots().items()}
    made_of["fleet"] = _class_path(server.fleet)
    data = getattr(server.trainer, "datamodule", None)
    if isinstance(data, FederatedData):
        sizes = np.asarray(data.num_examples, dtype=np.int64)
        digest = hashlib.sha256(sizes.tobytes()).hexdigest()[:8]
        made_of["data"] = f"{len(sizes)} clients with {sizes.sum()} examples (partition {digest})"
    return made_of


def _class_path(part: Part) -> str:
    return f"{type(part).__module__}.{type(part).__qualname__}"


def _restore(slot: str, part: Part, state: Mapping[str, Any]) -> None:
    try:
        part.load_state_dict(state)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{slot}: {type(part).__name__} can't take back what the checkpoint holds for it ({first_line(error)}); "
            "resume with the options of that run (config.yaml beside the checkpoint)"
        ) from error


def load_init_weights(client: pl.LightningModule, path: str) -> None:
    """Load weights from a fedlight checkpoint, a Lightning checkpoint or a plain state dict into ``client``.

    Raises:
        CheckpointError: if the file is missing, can't be read, or doesn't fit; names the tensors that don't.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"model.init_weights: there is no file {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(
            f"model.init_weights: {path} is no checkpoint of tensors and plain values; give one that fedlight fit has "
            "written, or what torch.save(module.state_dict(), path) has"
        ) from error
    state = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(
            f"model.init_weights: {path} holds no state dict; save it with torch.save(module.state_dict(), path)"
        )
    if isinstance(content, dict) and "fedlight" in content:
        state = {name.removeprefix("client."): value for name, value in state.items()}
    difference = _first_difference(state, client.state_dict())
    if difference:
        raise CheckpointError(
            f"model.init_weights: {path} doesn't fit {type(client).__name__}: {difference}; "
            "use weights of the same architecture"
        )
    client.load_state_dict(state)


def _first_difference(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> str:
    """Say in words where two state dicts differ in names or shapes; empty if they don't."""
    missing = [name for name in ours if name not in theirs]
    extra = [name for name in theirs if name not in ours]
    shapes = [
        f"{name} is {tuple(theirs[name].shape)} there and {tuple(ours[name].shape)} here"
        for name in ours
        if name in theirs and theirs[name].shape != ours[name].shape
    ]
    said = [
        f"{what} {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
        for what, names in (("it lacks", missing), ("it has the unknown", extra), ("", shapes))
        if names
    ]
    return "; ".join(part.strip() for part in said)
