"""A federation small enough to run every algorithm on it, and all of them as a process.

python federation.py FILE --processes 2: writes the final weights of every algorithm, by name.
"""

import argparse
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

import fedlight.algorithms
from fedlight.core import Server
from fedlight.core.fleet import Fate, Fleet
from fedlight.core.types import Timing
from fedlight.data import DirichletByClass, DirichletByClient, FederatedDataModule, Source, Splits, TensorExamples
from fedlight.parts import Buffered, Deadline, FixedFraction, OverSelection

NUM_CLIENTS, ROUNDS = 5, 4
LATE = ("CGSV", "FedBuff", "FedDU", "FedMP", "FedNova", "FlexCom", "HeteroFL", "PruneFL", "UPFL")
"""Algorithms that keep or add up something of their own: what two processes could do differently with late updates."""


class Stripes(Source):
    """Which of three patterns lies under the noise? 100 images of 1 x 6 x 6."""

    def load(self):
        generator = torch.Generator().manual_seed(3)
        patterns = torch.randn(3, 1, 6, 6, generator=generator)
        targets = torch.arange(100) % 3
        images = patterns[targets] + 0.5 * torch.randn(100, 1, 6, 6, generator=generator)
        return Splits(train=TensorExamples(images, targets), test=None)


def five_clients(equal=False):
    """Sixty images on five clients, twenty each for validation and the server; unequal mixes of classes."""
    partition = DirichletByClient(1.0) if equal else DirichletByClass(1.0, min_samples=3)
    return FederatedDataModule(
        Stripes(), NUM_CLIENTS, partition, batch_size=6, validation_fraction=0.2, server_fraction=0.2, seed=2
    )


class Classifier(pl.LightningModule):
    """What both networks train and log."""

    def __init__(self):
        super().__init__()
        self.example_input_array = torch.zeros(2, 1, 6, 6)

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        logits = self(batch[0])
        self.log("val/loss", nn.functional.cross_entropy(logits, batch[1]))
        self.log("val/accuracy", (logits.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Small(Classifier):
    """Sixteen channels to prune, and batch normalisation."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU())
        self.head = nn.Linear(16, 3)

    def forward(self, images):
        return self.head(self.body(images).mean((2, 3)))


class Convex(Classifier):
    """Softmax regression through sixteen hidden units whose outgoing weights are fixed: convex in what is trained."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.Linear(36, 16), nn.Linear(16, 3).requires_grad_(False)

    def forward(self, images):
        return self.out(self.hidden(images.flatten(1)))


class Speeds(Fleet):
    """Devices whose time is their work over their speed, without noise."""

    def __init__(self, speeds=(8.0, 4.0, 4.0, 2.0, 1.0)):
        self.speeds = speeds

    def setup(self, num_clients, seed):
        assert num_clients == len(self.speeds)

    def timing(self, client, work, round_idx):
        link = 1e-4 / self.speeds[client]
        return Timing(work.download_bytes * link, work.macs * 1e-5 / self.speeds[client], work.upload_bytes * link)

    def device(self, client):
        return f"speed {self.speeds[client]:g}"

    def candidates(self, now_s):
        return range(len(self.speeds))


class LosingSpeeds(Fleet):
    """The same devices; every client's third job, counted by version, loses its connection half way."""

    def __init__(self):
        self._speeds = Speeds()

    def setup(self, num_clients, seed):
        self._speeds.setup(num_clients, seed)

    def timing(self, client, work, round_idx):
        return self._speeds.timing(client, work, round_idx)

    def fate(self, departure, work):
        timing = self.timing(departure.client, work, departure.round_idx)
        if (departure.round_idx + departure.client + departure.repeat) % 3 < 2:
            return Fate(timing)
        return Fate(timing, departure.now_s + timing.total_s / 2, "dropped")

    def device(self, client):
        return self._speeds.device(client)

    def candidates(self, now_s):
        return self._speeds.candidates(now_s)


SCHEDULES = {
    "over": lambda: OverSelection(3, 1.3),
    "fraction": lambda: FixedFraction(4, 0.5),
    "fraction, kept": lambda: FixedFraction(4, 0.5, late="keep"),
    "deadline, cached": lambda: Deadline(None, 4, percentile=0.5, late="cache"),
    "buffer of 2": lambda: Buffered(2, 4),
    "one by one": lambda: Buffered(1),
}


def under(name, schedule):
    """Make an algorithm that moves by another schedule."""
    kind, moves = getattr(fedlight.algorithms, name), SCHEDULES[schedule]()
    if size_key(name) == "clients_per_round":
        return kind(schedule=moves)
    algorithm = kind()  # these have a schedule of their own
    algorithm.schedule = moves
    return algorithm


def run(algorithm, rounds=ROUNDS, module=Small, data=None, fleet=None, folder=None, resume=None, processes=1):
    """Train; with ``folder`` a checkpoint of every round is left there, named by the number of rounds done."""
    torch.manual_seed(0)
    server = Server(module(), algorithm, fleet or Speeds(), seed=7)
    keeper = [ModelCheckpoint(folder, filename="{step}", save_top_k=-1)] if folder else []
    trainer = pl.Trainer(
        max_epochs=rounds, accelerator="cpu", devices=processes, strategy="ddp" if processes > 1 else "auto",
        logger=False, enable_checkpointing=bool(folder), enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, limit_val_batches=0, use_distributed_sampler=False, callbacks=keeper,
    )  # fmt: skip
    trainer.fit(server, datamodule=data or five_clients(), ckpt_path=resume)
    return server


def size_key(name):
    """What an algorithm calls the number of clients that train side by side."""
    return "concurrency" if name in ("FedAsync", "FedBuff") else "clients_per_round"


def run_all(processes=1):
    """The final weights of every algorithm, by name."""
    kinds = {name: getattr(fedlight.algorithms, name) for name in fedlight.algorithms.__all__}
    return {name: run(kind(**{size_key(name): 4}), processes=processes).state_dict() for name, kind in kinds.items()}


def run_all_late(processes=1):
    """The final weights and time of one algorithm of each kind with a buffer, and of one under every schedule."""
    cases = [*((name, "buffer of 2") for name in LATE), *(("FedPace", key) for key in SCHEDULES)]
    results = {}
    for name, schedule in cases:
        server = run(under(name, schedule), rounds=3, fleet=LosingSpeeds(), processes=processes)
        results[f"{name}, {schedule}"] = {**server.state_dict(), "now_s": torch.tensor(server.clock.now_s)}
    return results


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--late", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    weights = (run_all_late if arguments.late else run_all)(arguments.processes)
    if pl.utilities.rank_zero_only.rank == 0:
        torch.save(weights, arguments.file)


if __name__ == "__main__":
    main()
