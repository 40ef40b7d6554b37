"""HeteroFL against its algorithm in plain loops, written from the paper and its code and not from fedlight."""

import math

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from toy import Batches, ToyData, ToyFleet

from fedlight.algorithms import HeteroFL
from fedlight.core import Server
from fedlight.parts import LeanLoop

NUM_CLASSES, LR, MOMENTUM, WEIGHT_DECAY = 5, 0.3, 0.9, 0.05
OWN = ([0, 1], [1, 2], [0, 1, 2], [2, 0])  # nobody has labels 3 and 4


class Classified(Batches):
    """One batch of class labels with everything."""

    def label_counts(self):
        return torch.bincount(self.y, minlength=NUM_CLASSES)


class LabelledData(ToyData):
    """The toy's clients with two or three classes each."""

    def __init__(self):
        super().__init__()
        self.clients = [
            Classified(client.x, torch.tensor(own).repeat(6)[: len(client.x)])
            for client, own in zip(self.clients, OWN, strict=True)
        ]


class Net(pl.LightningModule):
    """Three linear layers, both hidden ones of 8 units."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 8), nn.Linear(8, 8), nn.Linear(8, NUM_CLASSES)
        self.example_input_array = torch.zeros(2, 3)

    def forward(self, x):
        return self.c(torch.tanh(self.b(torch.tanh(self.a(x)))))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)


def thin_shape(name, rate):
    hidden = math.ceil(8 * rate)
    return {
        "a.weight": (hidden, 3), "a.bias": (hidden,), "b.weight": (hidden, hidden), "b.bias": (hidden,),
        "c.weight": (NUM_CLASSES, hidden), "c.bias": (NUM_CLASSES,),
    }[name]  # fmt: skip


def train(weights, x, y, own, masked):
    """Two steps of SGD on the cross-entropy whose logits of other classes are filled with 0."""
    values = {name: value.clone().requires_grad_() for name, value in weights.items()}
    momenta = {name: torch.zeros_like(value) for name, value in weights.items()}
    for _ in range(2):
        hidden = torch.tanh(x @ values["a.weight"].T + values["a.bias"])
        hidden = torch.tanh(hidden @ values["b.weight"].T + values["b.bias"])
        logits = hidden @ values["c.weight"].T + values["c.bias"]
        if masked:
            logits = torch.stack([logits[:, c] if c in own else 0 * logits[:, c] for c in range(NUM_CLASSES)], 1)
        loss = -logits.log_softmax(1)[torch.arange(len(y)), y].mean()
        slopes = torch.autograd.grad(loss, list(values.values()))
        with torch.no_grad():
            for (name, value), slope in zip(values.items(), slopes, strict=True):
                momenta[name] = MOMENTUM * momenta[name] + slope + WEIGHT_DECAY * value
                value -= LR * momenta[name]
    return {name: value.detach() for name, value in values.items()}


def one_round(weights, rates, clients, split):
    """Send slices, train, and average absolute weights entry by entry; ``split``: by label, and with masked loss."""
    returned = {}
    for client, rate in rates.items():
        thin = {name: w[tuple(slice(size) for size in thin_shape(name, rate))] for name, w in weights.items()}
        returned[client] = train(thin, clients[client].x, clients[client].y, OWN[client], split)
    merged = {}
    for name, value in weights.items():
        merged[name] = value.clone()
        for entry in np.ndindex(*value.shape):
            held = [
                float(trained[name][entry])
                for client, trained in returned.items()
                if all(at < size for at, size in zip(entry, trained[name].shape, strict=True))
                and (not split or not name.startswith("c.") or entry[0] in OWN[client])
            ]
            if held:
                merged[name][entry] = sum(held) / len(held)
    return merged


@pytest.mark.filterwarnings("ignore:You passed in a `val_dataloader` but have no `validation_step`")
@pytest.mark.parametrize("split", [True, False], ids=["masked", "not masked"])
@pytest.mark.parametrize("clients_per_round", [None, 2])
def test_equals_plain_loops(split, clients_per_round):
    class Records(pl.Callback):
        def on_train_batch_end(self, trainer, server, *_):
            rates.append({report.client: 1 - report.ratio for report in server.last_round.reports})

    torch.manual_seed(0)
    rates, data, net = [], LabelledData(), Net()
    expected = {name: value.clone() for name, value in net.state_dict().items()}
    start = expected
    local = LeanLoop(epochs=2, masked_logits="zero" if split else None)
    algorithm = HeteroFL(
        clients_per_round=clients_per_round, local=local, levels=[0.0, 0.5, 0.75], shares=[0.5, 0.25, 0.25]
    )
    server = Server(net, algorithm, ToyFleet(), seed=4)
    pl.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=0, use_distributed_sampler=False,
        callbacks=[Records()],
    ).fit(server, datamodule=data)  # fmt: skip
    for of_clients in rates:
        expected = one_round(expected, of_clients, data.clients, split)
    for name, value in server.client.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6)
    assert len({rate for of_clients in rates for rate in of_clients.values()}) > 1
    rows_that_moved = (expected["c.weight"] != start["c.weight"]).any(1).tolist()
    assert rows_that_moved == ([True] * 3 + [False] * 2 if split else [True] * 5)
