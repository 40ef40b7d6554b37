"""A toy federation: four clients with a line to fit each, on devices of two speeds."""

import lightning.pytorch as pl
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from fedlight.core.fleet import Fleet
from fedlight.core.types import ClientData, FederatedData, Timing

SIZES = (4, 8, 12, 6)


class Regressor(pl.LightningModule):
    """Two linear layers with a hidden width that can be pruned."""

    def __init__(self, hidden=16, lr=0.05):
        super().__init__()
        self.hidden, self.out, self.lr = nn.Linear(3, hidden), nn.Linear(hidden, 1), lr
        self.example_input_array = torch.zeros(2, 3)

    def forward(self, x):
        return self.out(torch.tanh(self.hidden(x)))

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = nn.functional.mse_loss(self(x), y)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val/loss", nn.functional.mse_loss(self(x), y))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class Classifier(Regressor):
    """Tells positive targets from others, with batch normalisation and dropout on the way."""

    def __init__(self):
        super().__init__()
        self.norm, self.dropout, self.out = nn.BatchNorm1d(16), nn.Dropout(0.3), nn.Linear(16, 2)

    def forward(self, x):
        return self.out(self.dropout(torch.relu(self.norm(self.hidden(x)))))

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = nn.functional.cross_entropy(self(x), (y[:, 0] > 0).long())
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val/accuracy", (self(x).argmax(1) == (y[:, 0] > 0)).float().mean())


class Batches(ClientData):
    """One batch with everything, so that the order of examples doesn't matter."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    @property
    def num_examples(self):
        return len(self.x)

    @property
    def num_batches(self):
        return 1

    def epoch(self, generator):
        yield self.x, self.y

    def halves(self):
        return Batches(self.x[::2], self.y[::2]), Batches(self.x[1::2], self.y[1::2])


class ToyData(pl.LightningDataModule, FederatedData):
    """Clients of :data:`SIZES` examples each."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.clients = []
        for number, size in enumerate(SIZES):
            x = torch.randn(size, 3, generator=generator)
            self.clients.append(Batches(x, x.sum(1, keepdim=True) * (1 + 0.1 * number)))

    @property
    def num_examples(self):
        return np.array([len(client.x) for client in self.clients])

    def client(self, client):
        return self.clients[client]

    def server(self):
        return self.clients[0]

    def train_dataloader(self):
        return DataLoader([0])

    def val_dataloader(self):
        return DataLoader(list(zip(self.clients[0].x, self.clients[0].y, strict=True)), batch_size=4)


class ToyFleet(Fleet):
    """Even clients take 1 s, odd ones 3 s, whatever they do."""

    def __init__(self):
        self.num_clients = 0

    def setup(self, num_clients, seed):
        self.num_clients = num_clients

    def timing(self, client, work, round_idx):
        return Timing(0.25, 0.5 + 2 * (client % 2), 0.25)

    def device(self, client):
        return ("fast", "slow")[client % 2]

    def candidates(self, now_s):
        return range(self.num_clients)
