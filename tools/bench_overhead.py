"""What a client's round costs beside a bare PyTorch loop that does the same work.

The workload is Reddi et al. 2021's CIFAR-10 network (1,626,442 parameters) on clients of 50 images: one epoch, batches
of 10, SGD 0.1. Both sides load the global weights, train, subtract and add the weighted update to a float64 sum. They
alternate in one process, client by client, so that whatever else the machine does hits both alike.

    python tools/bench_overhead.py --clients 60
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import nn

from fedlight.core.client import run_client
from fedlight.core.types import ClientTask
from fedlight.data.client import IndexedClient
from fedlight.data.examples import TensorExamples
from fedlight.models import ConvNet
from fedlight.parts.compression import NoCompression
from fedlight.parts.local import LeanLoop, TrainerLoop
from fedlight.parts.norm import RunningStatistics

NUM_CLIENTS, EXAMPLES_EACH, BATCH_SIZE, LR = 100, 50, 10, 0.1


def bare_network() -> nn.Sequential:
    """The network without a word of Lightning."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25),
        nn.Flatten(), nn.Linear(12544, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10),
    )  # fmt: skip


class Total:
    """The weighted sum of updates, in full shape."""

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        self.sums = [torch.zeros_like(value, dtype=torch.float64) for value in weights.values()]

    def add(self, delta: list[torch.Tensor], weight: float) -> None:
        """Add one update."""
        for total, value in zip(self.sums, delta, strict=True):
            total.add_(value, alpha=weight)


def bare_client(
    network: nn.Module, weights: list[torch.Tensor], client: IndexedClient, seed: int
) -> list[torch.Tensor]:
    """Load, train and subtract, as one writes it by hand."""
    parameters = list(network.parameters())
    with torch.no_grad():
        for parameter, weight in zip(parameters, weights, strict=True):
            parameter.copy_(weight)
    optimizer = torch.optim.SGD(parameters, lr=LR)
    for inputs, targets in client.epoch(torch.Generator().manual_seed(seed)):
        loss = nn.functional.cross_entropy(network(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return [parameter - weight for parameter, weight in zip(parameters, weights, strict=True)]


def main() -> None:
    """Print the median seconds of both sides and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=60, help="clients to time on each side")
    parser.add_argument("--loop", choices=("lean", "trainer"), default="lean")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = torch.randn(NUM_CLIENTS * EXAMPLES_EACH, 3, 32, 32)
    labels = torch.randint(10, (len(images),))
    examples = TensorExamples(images, labels)
    indices = torch.arange(len(images)).view(NUM_CLIENTS, EXAMPLES_EACH)
    module = ConvNet("cifar", lr=LR)
    network = bare_network().to(memory_format=torch.channels_last)  # as ConvNet is
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    local = LeanLoop() if arguments.loop == "lean" else TrainerLoop()
    local.check(module)
    norm, compression = RunningStatistics(), NoCompression()
    bare_total, our_total = Total(weights), Total(weights)
    seconds: dict[str, list[float]] = {"bare": [], "fedlight": []}
    for number in range(-3, arguments.clients):
        client = IndexedClient(examples, indices[number % NUM_CLIENTS], BATCH_SIZE)

        def bare(client: IndexedClient = client, number: int = number) -> None:
            bare_total.add(bare_client(network, list(weights.values()), client, number + 3), 1 / 50)

        def ours(client: IndexedClient = client, number: int = number) -> None:
            task = ClientTask(number, 0, 0, weights, None, 1.0, frozenset(), local, norm, compression)
            update = run_client(task, module, client)
            our_total.add(list(update.delta.values()), 1 / 50)

        sides = [("bare", bare), ("fedlight", ours)]
        for side, run in sides if number % 2 else sides[::-1]:
            started = time.perf_counter()
            run()
            if number >= 0:
                seconds[side].append(time.perf_counter() - started)
    bare_s, our_s = (statistics.median(seconds[side]) for side in ("bare", "fedlight"))
    pairs = statistics.median(ours - bare for bare, ours in zip(seconds["bare"], seconds["fedlight"], strict=True))
    print(f"bare {bare_s * 1e3:.2f} ms, fedlight ({arguments.loop}) {our_s * 1e3:.2f} ms per client")
    print(f"ratio of medians {our_s / bare_s:.4f}, median difference of pairs {pairs * 1e3:+.2f} ms")


if __name__ == "__main__":
    main()
