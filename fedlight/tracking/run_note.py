"""What a run of a comparison notes about itself, beside its logs: who it is, how far it is, what it ran on."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, final

import lightning.pytorch as pl
import yaml
from lightning.pytorch import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from fedlight.errors import ConfigError
from fedlight.tracking.environment import describe_environment, peak_memory_bytes
from fedlight.tracking.record import last_round
from fedlight.tracking.watched import VALIDATION

NOTE: Final = "run.json"
"""Name of the file, in the run's ``trainer.default_root_dir``."""

RUNNING, DONE, FAILED = "running", "done", "failed"
"""Values of ``status``; a run that was killed or interrupted still says that it is running."""

HASHED: Final = ("seed_everything", "model", "data", "trainer")
"""Parts of a configuration that decide what a run gives."""

CARRIED: Final = ("started", "progress", "peak_memory_bytes")
"""What a run that goes on takes over from before, beside the seconds."""

MIN_INTERVAL_S: Final = 1.0
"""Seconds between two writings of the progress."""

NEVER_LOGGED: Final = "metric is"
"""How the message starts that a comparison ends with: no run of it would log the metric."""


def config_hash(config: Mapping[str, Any]) -> str:
    """Return 16 hex digits that depend on all that decides what a run gives, and not on where it writes.

    Args:
        config: the run's configuration, defaults included, as plain values.
    """
    kept = {key: config.get(key) for key in HASHED}
    trainer = dict(kept["trainer"] or {})
    trainer.pop("default_root_dir", None)
    callbacks = trainer.get("callbacks") or []
    listed = callbacks if isinstance(callbacks, list) else [callbacks]
    trainer["callbacks"] = [one for one in listed if not _is_note(one)]
    text = json.dumps(_without_empty({**kept, "trainer": trainer}), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_note(folder: Path) -> dict[str, Any]:
    """Return the note in a run's folder, empty where there is none that can be read."""
    try:
        note = json.loads((folder / NOTE).read_text())
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def write_note(folder: Path, note: Mapping[str, Any]) -> None:
    """Write a run's note at once: whoever reads it sees the old one or the new one."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{NOTE}.{os.getpid()}"
    partial.write_text(json.dumps(note, indent=1, default=str) + "\n")
    partial.replace(folder / NOTE)


@final
class RunNote(Callback):
    """Keeps ``run.json`` in the run's folder: label, cell, seed, command, hash, status, progress and environment.

    ``fedlight fit`` closes it: the status is ``done`` only once all that the command does is done, a test included.

    Args:
        label: name of the variant that the run is of.
        cell: what else tells the run from others: axis to value.
        metric: what the comparison compares; the run is refused as soon as a validation hasn't logged it.
    """

    def __init__(self, label: str, cell: dict[str, str] | None = None, metric: str | None = None) -> None:
        self.label = label
        self.cell = dict(cell or {})
        self.metric = metric
        self._note: dict[str, Any] = {}
        self._folder: Path | None = None
        self._began_s = time.perf_counter()
        self._before_s = 0.0
        self._written_s = 0.0
        self._validated = False
        self._last_scalars: dict[str, float] = {}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Say that the run has begun, or goes on."""
        if stage != "fit" or not trainer.is_global_zero:
            return
        self._folder = Path(trainer.default_root_dir)
        config = yaml.safe_load(getattr(pl_module, "run_config", None) or "") or {}
        self._note = {
            "label": self.label,
            "cell": self.cell,
            "seed": getattr(pl_module, "seed", None),
            "command": _command(sys.argv),
            "config_hash": config_hash(config),
            "status": RUNNING,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "progress": None,
            "environment": describe_environment(),
            "peak_memory_bytes": None,
            "error": None,
        }
        self._write()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log once more what the checkpoint's round had to say: a run that was killed may not have come to it."""
        for logger in trainer.loggers if self._last_scalars else ():
            logger.log_metrics(self._last_scalars, step=int(self._last_scalars["epoch"]))

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Hand the system all that was logged before the checkpoint: what is not in the log is not run again."""
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.flush()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember that validation had its say."""
        self._validated = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note how far the run is.

        Raises:
            ConfigError: validation has not logged the metric, or there is no validation.
        """
        metrics, record = trainer.callback_metrics, last_round(pl_module)
        if self.metric is not None and self.metric not in metrics and (self._validated or not validates(trainer)):
            raise ConfigError(_never_logged(self.metric, list(metrics)))
        if record is None or not self._note:
            return
        self._last_scalars = {**record.scalars(), "epoch": float(record.round_idx)}
        value = metrics.get(self.metric) if self.metric is not None else None
        known = (self._note.get("progress") or {}).get("value")
        self._note["progress"] = {
            "round": record.round_idx + 1,
            "value": known if value is None else float(value),
            "simulated_s": record.end_s,
        }
        if time.perf_counter() - self._written_s >= MIN_INTERVAL_S:
            self._write()

    def state_dict(self) -> dict[str, Any]:
        """Return what a run that goes on adds to."""
        carried = {name: self._note.get(name) for name in CARRIED}
        return {**carried, "wall_s": self._wall_s(), "last_scalars": dict(self._last_scalars)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._before_s = float(state_dict["wall_s"])
        self._last_scalars = dict(state_dict["last_scalars"])
        if self._note:
            self._note |= {name: state_dict[name] for name in CARRIED}

    def close(self, error: BaseException | None = None) -> None:
        """Note that the run is done, or what it failed with."""
        if self._note:
            self._note["status"] = DONE if error is None else FAILED
            self._note["error"] = None if error is None else " ".join(f"{error}".split()) or type(error).__name__
            self._write()

    def _write(self) -> None:
        if self._folder is None:
            return
        self._written_s = time.perf_counter()
        self._note["wall_s"] = round(self._wall_s(), 3)
        peaks = [one for one in (self._note["peak_memory_bytes"], peak_memory_bytes()) if one is not None]
        self._note["peak_memory_bytes"] = max(peaks, default=None)
        write_note(self._folder, self._note)

    def _wall_s(self) -> float:
        return self._before_s + time.perf_counter() - self._began_s


def close_notes(trainer: pl.Trainer, error: BaseException | None = None) -> None:
    """Close the notes that a Trainer's run keeps, unless it was interrupted: then it is to go on."""
    for callback in getattr(trainer, "callbacks", ()):
        if isinstance(callback, RunNote) and not trainer.interrupted:
            callback.close(error)


def _without_empty(value: Any) -> Any:
    """Return a configuration without what is null or empty: a parser may write that, or leave it out."""
    if isinstance(value, Mapping):
        items = {key: _without_empty(one) for key, one in value.items()}
        return {key: one for key, one in items.items() if one not in (None, {}, [])}
    return [_without_empty(one) for one in value] if isinstance(value, list) else value


def _is_note(callback: Any) -> bool:
    return isinstance(callback, Mapping) and str(callback.get("class_path")).rpartition(".")[2] == RunNote.__name__


def validates(trainer: pl.Trainer) -> bool:
    """Return whether a Trainer's fit validates, as far as is known: batches are counted when validation first comes."""
    batches = trainer.num_val_batches
    counts = batches if isinstance(batches, list) else [batches]
    return trainer.enable_validation and (not counts or sum(counts) > 0)


def _never_logged(metric: str, metrics: list[str]) -> str:
    known = [name for name in metrics if name.startswith(VALIDATION)]
    says = f"validation logs {', '.join(known)}" if known else "no validation logs anything"
    return f"{NEVER_LOGGED} {metric}, which the runs don't log; {says}"


def _command(argv: list[str]) -> list[str]:
    """Return the command that repeats this run from its beginning."""
    arguments = [arg for arg in argv[1:] if not arg.startswith("--ckpt_path=")]
    if "--ckpt_path" in arguments:
        index = arguments.index("--ckpt_path")
        del arguments[index : index + 2]
    return ["fedlight", *arguments]
