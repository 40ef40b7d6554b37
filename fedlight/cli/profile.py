"""``fedlight profile``: what submodels of several ratios weigh, and how fast they train here."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, final

import numpy as np
import torch
from lightning.pytorch.cli import LightningArgumentParser
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from fedlight.cli.run import FedlightCLI
from fedlight.cli.state import unpriced_state
from fedlight.core import Server, run_client
from fedlight.core.slots import Scores
from fedlight.core.types import ClientData, ClientTask
from fedlight.data import FederatedDataModule
from fedlight.errors import ConfigError
from fedlight.submodels.coverage import Coverage
from fedlight.submodels.structure import Cost
from fedlight.tracking.format import quantity

DEFAULT_RATIOS = (0.0, 0.25, 0.5, 0.75)


def run_profile(arguments: Sequence[str]) -> None:
    """Run the subcommand."""
    cli = FedlightCLI(list(arguments), run=False, extend=_add_options)
    ratios, num_steps = cli.config.ratios, cli.config.steps
    for ratio in ratios:
        if not 0 <= ratio < 1:
            raise ConfigError(f"profile: --ratios {ratio:g} is outside [0, 1): it is the fraction removed")
    if num_steps < 1:
        raise ConfigError(f"profile: --steps {num_steps} measures nothing; give 1 or more")
    server, data = cli.model, cli.datamodule
    data.prepare_data()
    data.setup()
    server.setup("validate")
    server.algorithm.local.check(server.client)
    batch, batch_size, labels = _first_batch(data)
    table = Table(title=f"{type(server.client).__name__}, batch {batch_size}", title_justify="left", box=box.ROUNDED)
    for name in ("ratio", "kept", "parameters", "MACs per example", "bytes", "ms per training step", "of full"):
        table.add_column(name, justify="right", no_wrap=name == "kept")
    first_s: float | None = None
    for ratio in ratios:
        coverage = _coverage(server, data, ratio)
        cost = server.algorithm.extraction.cost_of(server.plan, coverage)
        step_s = _measure(server, coverage, TimedBatches(batch, batch_size, num_steps + 1, labels))
        first_s = first_s or step_s
        table.add_row(*_row(ratio, _kept(coverage), cost, step_s, first_s))
    Console().print(table)


def _add_options(parser: LightningArgumentParser) -> None:
    parser.add_argument("--ratios", type=float, nargs="+", default=list(DEFAULT_RATIOS), help="Fractions removed.")
    parser.add_argument("--steps", type=int, default=10, help="Steps to measure; the median is shown.")


@final
class TimedBatches(ClientData):
    """A client that holds one batch several times over, and notes when each one is asked for.

    Attributes:
        asked_s: time at each request for a batch and at the end: their differences are the seconds of the steps.
    """

    def __init__(self, batch: Any, batch_size: int, num_batches: int, labels: Tensor | None) -> None:
        self._batch = batch
        self._batch_size = batch_size
        self._num_batches = num_batches
        self._labels = labels
        self.asked_s: list[float] = []

    @property
    def num_examples(self) -> int:
        """Number of examples, repeated ones counted."""
        return self._batch_size * self._num_batches

    @property
    def num_batches(self) -> int:
        """Number of batches of one epoch."""
        return self._num_batches

    def epoch(self, generator: torch.Generator) -> Iterator[Any]:
        """Yield the batch as often as it is there."""
        for _ in range(self._num_batches):
            self.asked_s.append(time.perf_counter())
            yield self._batch
        self.asked_s.append(time.perf_counter())

    def label_counts(self) -> Tensor | None:
        """Return int64[num_classes], as if every class were present; None where the data have no class labels."""
        return self._labels


def _first_batch(data: FederatedDataModule) -> tuple[Any, int, Tensor | None]:
    """Return a batch of the client with the most examples, its size, and a count of one for every class."""
    client = data.client(int(np.argmax(data.num_examples)))
    batch = next(iter(client.epoch(torch.Generator().manual_seed(0))))
    labels = client.label_counts()
    return batch, min(client.num_examples, data.batch_size), None if labels is None else torch.ones_like(labels)


def _coverage(server: Server, data: FederatedDataModule, ratio: float) -> Coverage:
    state = unpriced_state(server, data.num_examples)
    # Which entries stay makes no difference to the time.
    scores = Scores(
        lambda: torch.zeros(server.plan.num_units),
        lambda: {name: torch.zeros(shape) for name, shape in server.plan.structure.shapes.items()},
    )
    return server.algorithm.extraction.extract(state, 0, ratio, scores)


def _measure(server: Server, coverage: Coverage, data: TimedBatches) -> float:
    """Return the median seconds of a training step; the first one warms up and isn't counted."""
    parts, module = server.algorithm, server.plan.build(server.client, coverage.keep)
    task = ClientTask(
        client=0,
        round_idx=0,
        seed=server.seed,
        weights=coverage.slice(server.client.state_dict()),
        masks=coverage.masks,
        lr_factor=0.0,
        statistics=parts.importance.statistics,
        local=parts.local,
        norm=parts.norm,
        compression=parts.compression,
    )
    run_client(task, module, data)
    steps_s = np.diff(data.asked_s)
    return float(np.median(steps_s[1:]))


def _kept(coverage: Coverage) -> str:
    """Return the fraction that layers keep: of their units, or of their weights; least and most where these differ."""
    kept = [f"{1 - removed:.2f}" for removed in sorted(coverage.layer_sparsity().values(), reverse=True)] or ["1.00"]
    return kept[0] if kept[0] == kept[-1] else f"{kept[0]}-{kept[-1]}"


def _row(ratio: float, kept: str, cost: Cost, step_s: float, first_s: float) -> tuple[str, ...]:
    return (
        f"{ratio:g}",
        kept,
        f"{cost.parameters:,}",
        quantity(cost.macs),
        quantity(cost.num_bytes, "B"),
        f"{1000 * step_s:.2f}",
        f"{step_s / first_s:.2f}",
    )
