"""Clients for tests of local training: data of a few tensors, a tiny classifier, and how to make a task."""

import lightning.pytorch as pl
import torch
from torch import nn

from fedlight.core.types import ClientData, ClientTask
from fedlight.parts.compression import NoCompression
from fedlight.parts.norm import RunningStatistics


class Examples(ClientData):
    """Examples in memory, in batches of ``batch_size`` in an order drawn from the generator."""

    def __init__(self, x, y, batch_size=4, num_classes=None):
        self.x, self.y, self.batch_size, self.num_classes = x, y, batch_size, num_classes

    @property
    def num_examples(self):
        return len(self.x)

    @property
    def num_batches(self):
        return -(-len(self.x) // self.batch_size)

    def epoch(self, generator):
        for picked in torch.randperm(len(self.x), generator=generator).split(self.batch_size):
            yield self.x[picked], self.y[picked]

    def label_counts(self):
        return None if self.num_classes is None else torch.bincount(self.y, minlength=self.num_classes)


def classes(num_examples=12, num_classes=3, batch_size=4, present=None, seed=1):
    """Labelled examples of four features."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num_examples, 4, generator=generator)
    labels = torch.tensor(present if present is not None else range(num_classes))
    return Examples(x, labels[torch.arange(num_examples) % len(labels)], batch_size, num_classes)


class Net(pl.LightningModule):
    """A classifier with batch normalisation and dropout."""

    def __init__(self, lr=0.1, momentum=0.9, weight_decay=0.01, dropout=0.3):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(dropout))
        self.head = nn.Linear(6, 3)
        self.options = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}

    def forward(self, x):
        return self.head(self.body(x))

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = nn.functional.cross_entropy(self(x), y)
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), **self.options)


class Scalar(pl.LightningModule):
    """One weight w, loss ½ mean (w - y)²: its gradient is w minus the mean target."""

    def __init__(self, **options):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(()))
        self.options = {"lr": 0.5, **options}

    def training_step(self, batch, batch_idx):
        return 0.5 * (self.w - batch[1]).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), **self.options)


def targets(*values, batch_size=None):
    """A client whose examples are these targets."""
    y = torch.tensor(values)
    return Examples(torch.zeros(len(y), 1), y, batch_size or len(y))


def make_task(module, local, **changes):
    """A task that starts from the module's present weights."""
    values = {
        "client": 3, "round_idx": 2, "seed": 7, "masks": None, "lr_factor": 1.0, "statistics": frozenset(),
        "weights": {name: value.clone() for name, value in module.state_dict().items()},
        "norm": RunningStatistics(), "compression": NoCompression(),
    }  # fmt: skip
    return ClientTask(local=local, **(values | changes))
