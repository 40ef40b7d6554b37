"""Whole rounds of dense FedAvg beside a bare PyTorch loop, and two processes beside one.

The workload is the CIFAR-10 benchmark that federated simulators publish: 1000 clients of 50 images, 50 clients per
round, one epoch, batches of 10, SGD 0.1, the network of Reddi et al. 2021 (1,626,442 parameters). Images are random:
nothing here depends on what they show.

    python tools/bench_rounds.py                  # a round of the Server against a bare round, alternating
    python tools/bench_rounds.py --processes      # rounds per second of two processes against one, alternating runs
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import subprocess
import sys
import time
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from bench_overhead import bare_network
from torch import nn

from fedlight.algorithms import FedAvg
from fedlight.core import Server
from fedlight.data import FederatedDataModule, Source, Splits, TensorExamples
from fedlight.fleet import Homogeneous
from fedlight.models import ConvNet

NUM_CLIENTS, EXAMPLES_EACH, CLIENTS_PER_ROUND, BATCH_SIZE, LR = 1000, 50, 50, 10, 0.1


def images() -> tuple[torch.Tensor, torch.Tensor]:
    """Return random images in the shape of CIFAR-10, and labels."""
    generator = torch.Generator().manual_seed(0)
    num_examples = NUM_CLIENTS * EXAMPLES_EACH
    x = torch.randn(num_examples, 3, 32, 32, generator=generator)
    return x, torch.randint(10, (num_examples,), generator=generator)


class InMemory(Source):
    """Images in memory, like those of torchvision's sets."""

    def __init__(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self.examples = TensorExamples(x, y)

    def load(self) -> Splits:
        """Return them as they are."""
        return Splits(train=self.examples)


class BareFedAvg:
    """FedAvg as one would write it down without any library but PyTorch."""

    def __init__(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self.network, self.x, self.y = bare_network(), x, y
        self.members = np.random.default_rng(0).permutation(len(x)).reshape(NUM_CLIENTS, EXAMPLES_EACH)

    def round(self, round_idx: int) -> None:
        """Train a cohort and step by the mean update."""
        start = [parameter.detach().clone() for parameter in self.network.parameters()]
        mean = [torch.zeros_like(weight) for weight in start]
        cohort = np.random.default_rng(round_idx).choice(NUM_CLIENTS, CLIENTS_PER_ROUND, replace=False)
        for client in cohort:
            with torch.no_grad():
                for parameter, weight in zip(self.network.parameters(), start, strict=True):
                    parameter.copy_(weight)
            self.train(self.members[client])
            with torch.no_grad():
                for total, parameter, weight in zip(mean, self.network.parameters(), start, strict=True):
                    total.add_(parameter - weight, alpha=1 / CLIENTS_PER_ROUND)
        with torch.no_grad():
            for parameter, weight, update in zip(self.network.parameters(), start, mean, strict=True):
                parameter.copy_(weight + update)

    def train(self, members: np.ndarray) -> None:
        """Train one epoch on one client's images."""
        optimizer = torch.optim.SGD(self.network.parameters(), lr=LR)
        for batch in torch.from_numpy(np.random.permutation(members)).split(BATCH_SIZE):
            optimizer.zero_grad()
            nn.functional.cross_entropy(self.network(self.x[batch]), self.y[batch]).backward()
            optimizer.step()


class Alternate(pl.Callback):
    """Before every round of the Server, run a bare one; time both from the outside."""

    def __init__(self, bare: BareFedAvg | None) -> None:
        self.bare, self.bare_s, self.our_s = bare, [], []
        self.started = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, server: pl.LightningModule) -> None:
        """Run and time the bare round, then start the clock for ours."""
        if self.bare is not None:
            started = time.perf_counter()
            self.bare.round(trainer.current_epoch)
            self.bare_s.append(time.perf_counter() - started)
        self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, server: pl.LightningModule) -> None:
        """Stop the clock."""
        self.our_s.append(time.perf_counter() - self.started)


def run(rounds: int, processes: int, bare: bool) -> Alternate:
    """Run the Server, alternating with the bare loop if asked."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    x, y = images()
    data = FederatedDataModule(
        InMemory(x, y),
        num_clients=NUM_CLIENTS,
        batch_size=BATCH_SIZE,
        validation_fraction=0.0,
    )
    timing = Alternate(BareFedAvg(x, y) if bare else None)
    pl.Trainer(
        max_epochs=rounds,
        accelerator="cpu",
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
        callbacks=[timing],
    ).fit(
        Server(ConvNet("cifar", lr=LR), FedAvg(clients_per_round=CLIENTS_PER_ROUND), Homogeneous()),
        datamodule=data,
    )
    return timing


def seconds_per_round(processes: int, rounds: int) -> float:
    """Return the median seconds of a round in a run of its own."""
    command = [sys.executable, str(Path(__file__)), "--rounds", str(rounds), "--child", str(processes)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return float(json.loads(next(line for line in lines if line.startswith("{")))["seconds"])


def main() -> None:
    """Print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6, help="rounds to time, after one that is not counted")
    parser.add_argument("--processes", action="store_true", help="compare two processes with one")
    parser.add_argument("--pairs", type=int, default=3, help="pairs of runs to compare with --processes")
    parser.add_argument("--child", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        timing = run(1 + arguments.rounds, arguments.child, bare=False)
        print(json.dumps({"seconds": statistics.median(timing.our_s[1:])}), flush=True)
    elif arguments.processes:
        ratios = []
        for _ in range(arguments.pairs):
            one, two = seconds_per_round(1, arguments.rounds), seconds_per_round(2, arguments.rounds)
            ratios.append(one / two)
            print(f"one process {one:.2f} s per round, two {two:.2f} s: {one / two:.2f} times the rounds per second")
        print(f"median ratio {statistics.median(ratios):.2f}")
    else:
        timing = run(1 + arguments.rounds, 1, bare=True)
        pairs = [ours / bare for ours, bare in zip(timing.our_s[1:], timing.bare_s[1:], strict=True)]
        bare_s, our_s = statistics.median(timing.bare_s[1:]), statistics.median(timing.our_s[1:])
        print(f"bare {bare_s:.2f} s, fedlight {our_s:.2f} s per round of {CLIENTS_PER_ROUND} clients")
        paired = statistics.median(pairs)
        print(f"ratio of medians {our_s / bare_s:.3f}, median of {len(pairs)} paired ratios {paired:.3f}")


if __name__ == "__main__":
    main()
