"""BatchNorm under submodels: what becomes of the full model by how its running statistics are had.

Two small tasks on 8 clients of `High`, IID: a regression by an MLP of four hidden layers of 64, and the 8x8 digits by
three convolutions of 32. Per algorithm and per way the loss on held-out examples, mean over the last five rounds; mean
over the seeds, and in parentheses the worst of them.

    python tools/bench_batchnorm.py                           # about fifteen minutes on one core
    python tools/bench_batchnorm.py --tasks regression --seeds 1 --rounds 10
"""

from __future__ import annotations

import argparse
import logging
import statistics
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlight.algorithms import FedAvg, FedLight, SpeedRatio
from fedlight.core import Algorithm, Server
from fedlight.core.slots import NormPolicy
from fedlight.core.types import ClientData
from fedlight.data import Digits, FederatedDataModule, Source, Splits, TensorExamples
from fedlight.fleet import High
from fedlight.parts.norm import BatchStatistics, RunningStatistics, StaticStatistics

NUM_CLIENTS, BATCH_SIZE, NUM_FEATURES, DEPTH, LAST_ROUNDS = 8, 16, 8, 4, 5


class Teacher(Source):
    """A smooth function of ten numbers with a little noise, variance 1."""

    def load(self) -> Splits:
        """Return 2500 examples, the same every time."""
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(2500, NUM_FEATURES, generator=generator)
        teacher = nn.Sequential(nn.Linear(NUM_FEATURES, 20), nn.Tanh(), nn.Linear(20, 1))
        for parameter in teacher.parameters():
            parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator)
        y = teacher(x).detach()
        y = (y - y.mean()) / y.std() + 0.1 * torch.randn(y.shape, generator=generator)
        return Splits(train=TensorExamples(x, y))


class Student(pl.LightningModule):
    """A small network with a choice of normalisation, for either task."""

    def __init__(self, task: str, norm: str) -> None:
        super().__init__()
        self.loss: Callable[[Tensor, Tensor], Tensor]
        body: list[nn.Module] = []
        if task == "regression":
            self.example_input_array, self.loss = torch.zeros(2, NUM_FEATURES), functional.mse_loss
            for width in (NUM_FEATURES, *[64] * (DEPTH - 1)):
                body += self._block(nn.Linear(width, 64), norm)
            self.layers = nn.Sequential(*body, nn.Linear(64, 1))
        else:
            self.example_input_array, self.loss = torch.zeros(2, 1, 8, 8), functional.cross_entropy
            for width in (1, 32, 32):
                body += self._block(nn.Conv2d(width, 32, 3, padding=1), norm)
            self.layers = nn.Sequential(*body, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32 * 4, 10))

    @staticmethod
    def _block(layer: nn.Linear | nn.Conv2d, norm: str) -> list[nn.Module]:
        width = layer.weight.shape[0]
        if norm == "group":
            return [layer, nn.GroupNorm(width // 8, width), nn.ReLU()]
        batch_norm = nn.BatchNorm1d(width) if isinstance(layer, nn.Linear) else nn.BatchNorm2d(width)
        return [layer, batch_norm, nn.ReLU()]

    def forward(self, x: Tensor) -> Tensor:
        """Predictions or logits."""
        out: Tensor = self.layers(x)
        return out

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss of one batch."""
        return self.loss(self(batch[0]), batch[1])

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the loss."""
        self.log("val/loss", self.loss(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD 0.05."""
        return torch.optim.SGD(self.parameters(), lr=0.05)


class LastLosses(pl.Callback):
    """Keeps the validation losses."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_validation_end(self, trainer: pl.Trainer, server: pl.LightningModule) -> None:
        """Note one."""
        self.losses.append(float(trainer.callback_metrics["val/loss"]))


class ByCoverage(NormPolicy):
    """Statistics averaged over all clients that hold the unit, like weights."""

    travels = True

    def prepare(self, module: nn.Module) -> None:
        """Leave the module as it is."""

    def before_evaluation(
        self, module: nn.Module, server_data: ClientData | None, forward: Callable[[Any], None]
    ) -> None:
        """Leave the module as it is."""


class _Chained:
    """The batches of several clients, one after the other."""

    def __init__(self, clients: Sequence[ClientData]) -> None:
        self.clients = clients

    def epoch(self, generator: torch.Generator) -> Iterator[Any]:
        """Yield one epoch of each."""
        for client in self.clients:
            yield from client.epoch(generator)


class FromClients(NormPolicy):
    """Statistics of the full model over all clients' examples, as HeteroFL's paper has them."""

    travels = False
    data: FederatedDataModule

    def prepare(self, module: nn.Module) -> None:
        """Stop tracking."""
        StaticStatistics().prepare(module)

    def before_evaluation(
        self, module: nn.Module, server_data: ClientData | None, forward: Callable[[Any], None]
    ) -> None:
        """Estimate over all clients."""
        batches = _Chained([self.data.client(client) for client in range(NUM_CLIENTS)])
        StaticStatistics().before_evaluation(module, batches, forward)  # type: ignore[arg-type]


WAYS: Mapping[str, tuple[str, Callable[[], NormPolicy]]] = {
    "GroupNorm": ("group", RunningStatistics),
    "averaged over all": ("batch", ByCoverage),
    "RunningStatistics": ("batch", RunningStatistics),
    "StaticStatistics, 5 %": ("batch", StaticStatistics),
    "  on all clients' data": ("batch", FromClients),
    "BatchStatistics": ("batch", BatchStatistics),
}
ALGORITHMS: Mapping[str, Callable[..., Algorithm]] = {"FedAvg": FedAvg, "FedLight": FedLight, "SpeedRatio": SpeedRatio}


def run(task: str, algorithm: str, way: str, rounds: int, seed: int) -> float:
    """Return the held-out loss of the global model, mean over the last rounds."""
    norm, policy = WAYS[way][0], WAYS[way][1]()
    pl.seed_everything(seed, verbose=False)
    data = FederatedDataModule(
        Teacher() if task == "regression" else Digits(),
        num_clients=NUM_CLIENTS,
        batch_size=BATCH_SIZE,
        validation_fraction=0.2,
        server_fraction=0.05,
        seed=seed,
    )
    if isinstance(policy, FromClients):
        policy.data = data
    parts = ALGORITHMS[algorithm](norm=policy)
    noted = LastLosses()
    trainer = pl.Trainer(
        max_epochs=rounds,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        callbacks=[noted],
    )
    trainer.fit(Server(Student(task, norm), parts, High(), seed=seed), datamodule=data)
    return statistics.mean(noted.losses[-LAST_ROUNDS:])


def main() -> None:
    """Print a table per task."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", nargs="+", default=["regression", "digits"])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for task in options.tasks:
        print(f"\n| {task} | {' | '.join(ALGORITHMS)} |\n|---|{'---|' * len(ALGORITHMS)}")
        for way in WAYS:
            cells = []
            for algorithm in ALGORITHMS:
                losses = [run(task, algorithm, way, options.rounds, seed) for seed in range(options.seeds)]
                cells.append(f"{statistics.mean(losses):.2f} ({max(losses):.2f})")
            print(f"| {way} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
