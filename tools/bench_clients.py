"""Time and memory that 100,000 registered clients cost before the first round, and 50 of them per round after it.

    python tools/bench_clients.py [--clients 100000] [--per-client 20] [--partition DirichletByClient]

Prints the seconds from a loaded data set to a ready fleet, the memory above the data (resident then, and at its peak),
and the milliseconds of a round's data access and timing.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from fedlight.core.types import Work
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

COHORT = 50
ROUNDS = 20
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
    data.setup()
    fleet = Phones()
    fleet.setup(arguments.clients, 0)
    print(f"start: {time.perf_counter() - start:.2f} s")
    print(
        f"memory above the data: {memory_mib('VmRSS') - with_data:.0f} MiB, peak {memory_mib('VmHWM') - with_data:.0f}"
    )

    rng = np.random.default_rng(0)
    start = time.perf_counter()
    for round_idx in range(ROUNDS):
        for client in rng.choice(arguments.clients, COHORT, replace=False).tolist():
            for _ in data.client(client).epoch(torch.Generator().manual_seed(client)):
                pass
            fleet.timing(client, Work(1e9, 10**6, 10**6), round_idx)
    print(f"data access and timing: {(time.perf_counter() - start) / ROUNDS * 1e3:.1f} ms per round of {COHORT}")


if __name__ == "__main__":
    main()
