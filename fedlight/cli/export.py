"""``fedlight export``: a submodel of a trained model as ONNX."""

from __future__ import annotations

import copy
from argparse import ArgumentError
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.utilities.model_helpers import is_overridden
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from fedlight.cli.messages import explain
from fedlight.cli.saved import SavedRun
from fedlight.core.evaluation import batch_inputs, example_inputs, run_forward
from fedlight.core.seeds import SERVER
from fedlight.core.slots import Scores
from fedlight.data import FederatedDataModule
from fedlight.errors import CheckpointError, ConfigError
from fedlight.export import ExportError, export_submodel
from fedlight.export.bundle import MANIFEST, refuse_to_overwrite
from fedlight.export.onnx_model import require_onnx
from fedlight.parts.importance import Magnitude
from fedlight.parts.norm import StaticStatistics
from fedlight.submodels import SubmodelPlan
from fedlight.submodels.coverage import Coverage
from fedlight.tracking.format import metric, percent, quantity


def run_export(arguments: Sequence[str]) -> None:
    """Run the subcommand."""
    options = _parse(arguments)
    require_onnx()
    if not options.overwrite:
        refuse_to_overwrite(Path(options.out))  # before the work, too
    run = SavedRun(options.ckpt_path)
    coverage, origin = _choose(run, options)
    server = run.server
    inputs = example_inputs(server.client)
    thin = _build(server.client, server.plan, coverage)
    needs_statistics = not server.algorithm.norm.travels
    data = run.setup_data()
    batches = _own_batches(server.client, data) if data is not None and (options.int8 or needs_statistics) else None
    if needs_statistics:
        _estimate_statistics(thin, data)
    if options.int8 and not batches:
        raise ExportError(
            "--int8 needs examples to calibrate on, and the run's data are not at hand or hold none back; "
            "set data.server_fraction or data.validation_fraction > 0, or leave --int8 out"
        )
    metrics = None if data is None else _validate(thin, data)
    manifest = export_submodel(
        server.plan,
        coverage.keep,
        thin,
        inputs,
        options.out,
        origin=origin,
        class_names=_class_names(server.client, data),
        calibration=batches if options.int8 else None,
        classifies=_has_classes(data),
        overwrite=options.overwrite,
        metrics=metrics,
        measured_on=data.validate_on if data is not None and metrics is not None else None,
    )
    Console().print(_table(manifest, options.out))


def _parse(arguments: Sequence[str]) -> Namespace:
    parser = ArgumentParser(
        prog="fedlight export",
        description="Writes a submodel as ONNX, checked in onnxruntime.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("--ckpt_path", type=str, required=True, help="Checkpoint that fedlight fit has written.")
    parser.add_argument("--ratio", type=float, default=None, help="Fraction removed, in [0, 1); 0: the full model.")
    parser.add_argument("--client", type=int, default=None, help="The submodel that this client had last.")
    parser.add_argument("--out", type=str, required=True, help="Folder to write to.")
    parser.add_argument("--int8", type=bool, default=False, nargs="?", const=True, help="Also write an int8 model.")
    parser.add_argument(
        "--overwrite", type=bool, default=False, nargs="?", const=True, help="Replace an export that is in --out."
    )
    try:
        options = parser.parse_args(list(arguments))
    except ArgumentError as error:
        raise ConfigError(f"export: {explain(error.message, [action.dest for action in parser._actions])}") from error
    if (options.ratio is None) == (options.client is None):
        raise ConfigError("export: give either --ratio R (a submodel of that size) or --client ID (that client's own)")
    if options.ratio is not None and not 0 <= options.ratio < 1:
        raise ConfigError(f"export: --ratio {options.ratio:g} is outside [0, 1): it is the fraction removed")
    return options


def _choose(run: SavedRun, options: Namespace) -> tuple[Coverage, dict[str, Any]]:
    """Return which part of the model to write, and where that comes from."""
    plan, parts = run.server.plan, run.server.algorithm
    origin: dict[str, Any] = {"checkpoint": options.ckpt_path, "round": run.round_idx, "algorithm": parts.name}
    if options.client is not None:
        coverage = parts.extraction.last(plan, options.client)
        if coverage is None:
            raise CheckpointError(
                f"client {options.client} has no submodel in this checkpoint{_known_clients(run)}; use --ratio instead"
            )
        return coverage, origin | {"client": options.client}
    # Where training pruned, the units that were trained most are those the algorithm prefers (prefix widths, say);
    # where it didn't, the algorithm's order means nothing and magnitudes decide.
    importance = parts.importance if run.pruned else Magnitude()
    state, origin = run.state(), origin | {"ratio": options.ratio}

    def units() -> Tensor:
        origin["importance"] = type(importance).__name__
        return importance.scores(state, SERVER)

    def entries() -> dict[str, Tensor]:
        origin["importance"] = type(importance).__name__
        return importance.entries(state, SERVER)

    # As a client without a history would get it, by the algorithm's own scope and rounding.
    return parts.extraction.extract(state, SERVER, options.ratio, Scores(units, entries)), origin


def _known_clients(run: SavedRun) -> str:
    extraction, plan = run.server.algorithm.extraction, run.server.plan
    known = (str(client) for client in range(run.data.num_clients) if extraction.last(plan, client) is not None)
    shown = list(islice(known, 11))
    if not shown:
        return " (no client has one)"
    return f" (those of {', '.join(shown[:10])}{', ...' if len(shown) > 10 else ''} are there)"


def _build(client: pl.LightningModule, plan: SubmodelPlan, coverage: Coverage) -> pl.LightningModule:
    """Return the submodule in its own size, with the global weights that the coverage names."""
    thin = plan.build(client, coverage.keep)
    thin.load_state_dict({**thin.state_dict(), **coverage.slice(client.state_dict())})
    return thin.eval()


def _own_batches(client: pl.LightningModule, data: FederatedDataModule) -> list[tuple[Tensor, ...]]:
    """Return the forward arguments of what the server holds back: its own examples, else the validation set."""
    return [batch_inputs(client, batch) for batch in _held_back(data)]


def _held_back(data: FederatedDataModule) -> Iterable[Any]:
    own = data.server()
    if own is not None:
        return own.epoch(torch.Generator().manual_seed(0))
    # Validation that reads the test set would let test data steer what is exported.
    return data.val_dataloader() if data.validate_on == "holdout" else ()


def _has_classes(data: FederatedDataModule | None) -> bool:
    """Whether every example has one class label."""
    return data is not None and data.client(0).label_counts() is not None


def _estimate_statistics(thin: pl.LightningModule, data: FederatedDataModule | None) -> None:
    """Estimate running statistics where the algorithm keeps none, on what the server holds back."""

    @torch.no_grad()
    def forward(batch: Any) -> None:
        run_forward(thin, batch)

    StaticStatistics().before_evaluation(thin, None if data is None else data.server(), forward)


def _validate(thin: pl.LightningModule, data: FederatedDataModule) -> dict[str, float] | None:
    """Return what the module's own ``validation_step`` logs for the submodel; None if it has none or no data."""
    if not is_overridden("validation_step", thin, pl.LightningModule):
        return None
    loader = data.val_dataloader()
    if next(iter(loader), None) is None:
        return None
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    # On a copy, since a Trainer leaves traces in the module.
    return dict(trainer.validate(copy.deepcopy(thin), dataloaders=loader, verbose=False)[0])


def _class_names(client: pl.LightningModule, data: FederatedDataModule | None) -> Sequence[str] | None:
    own: Sequence[str] | None = getattr(client, "class_names", None)
    return own or (data.class_names if data is not None else None)


def _table(manifest: dict[str, Any], out: str) -> Table:
    table = Table(title="Exported", title_justify="left", title_style="bold", show_header=False, box=box.ROUNDED)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    origin, check, int8 = manifest["origin"], manifest["check"], manifest["int8"]
    if "client" in origin:
        table.add_row("submodel", f"of client {origin['client']} after round {origin['round']}")
    else:
        order = f" by {origin['importance']}" if "importance" in origin else ""
        table.add_row("submodel", f"ratio {origin['ratio']:g}{order} after round {origin['round']}")
    on_test = " (test set)" if manifest["measured_on"] == "test" else ""
    for tag, value in sorted((manifest["metrics"] or {}).items()):
        table.add_row(tag.replace("/", " ") + on_test, metric(tag, value))
    table.add_row("parameters", quantity(manifest["parameters"]))
    table.add_row("work per example", quantity(manifest["macs"], "MAC"))
    table.add_row(manifest["files"]["float32"], f"{quantity(manifest['num_bytes'], 'B')}, opset {manifest['opset']}")
    table.add_row(
        "check",
        f"onnxruntime and PyTorch differ by {check['max_difference']:.1e} (tolerance {check['tolerance']:.1e})",
    )
    if int8 is not None:
        table.add_row(manifest["files"]["int8"], _int8_line(int8))
        if int8["num_bytes"] > manifest["num_bytes"]:
            table.add_row("", "larger than the float32 file: in so small a model the scales outweigh the weights")
    table.add_row("folder", f"{out} ({MANIFEST} describes it)")
    return table


def _int8_line(int8: dict[str, Any]) -> str:
    size, examples = quantity(int8["num_bytes"], "B"), int8["num_examples"]
    relative = percent(int8["relative_difference"])
    if int8["agreement"] is not None:
        return (
            f"{size}, same answer on {percent(int8['agreement'])} of {examples} examples, outputs differ by {relative}"
        )
    mean, most = f"{int8['mean_difference']:.2g}", f"{int8['max_difference']:.2g}"
    return f"{size}, outputs of {examples} examples differ by {relative}: {mean} on average, {most} at most"
