"""Time and memory that 100,000 registered clients cost, with 50 of them per round.

    python tools/bench_clients.py [--clients 100000] [--per-client 20] [--partition DirichletByClient]

Prints the seconds from a loaded data set to the first round of a real run (partition, fleet, tracing), the memory above
the data after the rounds (resident then, and at its peak), and the milliseconds of a round.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch

from fedlight.algorithms import SpeedRatio
from fedlight.core import Server
from fedlight.data import (
    IID,
    ClassesPerClient,
    DirichletByClient,
    FederatedDataModule,
    Partition,
    Shards,
    Source,
    Splits,
    TensorExamples,
)
from fedlight.fleet import Phones
from fedlight.models import ConvNet

COHORT = 50
ROUNDS = 5
PARTITIONS: dict[str, Partition] = {
    "IID": IID(),
    "DirichletByClient": DirichletByClient(0.5),
    "ClassesPerClient": ClassesPerClient(2),
    "Shards": Shards(2),
}


class Synthetic(Source):
    """Random bytes with 10 classes."""

    def __init__(self, num_examples: int) -> None:
        rng = np.random.default_rng(0)
        inputs = torch.from_numpy(rng.integers(0, 256, (num_examples, 1, 8, 8), dtype=np.uint8))
        targets = torch.from_numpy(rng.integers(0, 10, num_examples))
        self.splits = Splits(TensorExamples(inputs, targets, [0.5], [0.3]))

    def load(self) -> Splits:
        """Return what is in memory already."""
        return self.splits


class Times(pl.Callback):
    """When training began, and when each round ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_start(self, trainer: pl.Trainer, server: pl.LightningModule) -> None:
        """Everything is set up."""
        self.ends.append(time.perf_counter())

    def on_train_epoch_end(self, trainer: pl.Trainer, server: pl.LightningModule) -> None:
        """A round is over."""
        self.ends.append(time.perf_counter())


def memory_mib(field: str) -> float:
    """Return a field of this process's memory: VmRSS is resident now, VmHWM was at its peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {field} in /proc/self/status: this benchmark needs Linux")


def main() -> None:
    """Run one partition; a process of its own for each keeps their memory apart."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=100_000)
    parser.add_argument("--per-client", type=int, default=20)
    parser.add_argument("--partition", choices=PARTITIONS, default="DirichletByClient")
    arguments = parser.parse_args()
    source = Synthetic(arguments.clients * arguments.per_client)
    with_data = memory_mib("VmRSS")
    print(f"{arguments.clients} clients, {len(source.splits.train)} examples, {with_data:.0f} MiB with them")

    start = time.perf_counter()
    partition = PARTITIONS[arguments.partition]
    data = FederatedDataModule(source, arguments.clients, partition, batch_size=10, validation_fraction=0)
    server = Server(ConvNet("digits"), SpeedRatio(clients_per_round=COHORT), Phones())
    times = Times()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    pl.Trainer(
        max_epochs=ROUNDS,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=[times],
    ).fit(server, datamodule=data)
    print(f"start: {times.ends[0] - start:.2f} s until the first round")
    print(
        f"memory above the data: {memory_mib('VmRSS') - with_data:.0f} MiB, peak {memory_mib('VmHWM') - with_data:.0f}"
    )
    rounds_s = np.diff(times.ends)
    print(f"rounds of {COHORT} clients: median {np.median(rounds_s) * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
