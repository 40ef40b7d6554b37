"""FedDU: the mean, then a (w_srv - mean) with a from accuracy, Jensen-Shannon degrees and counts of examples."""

import math

import pytest
import torch
from plain_submodels import CLIENTS, HIDDEN, LR, SIZES, assert_equal, run, start, train
from torch import nn
from toy import Batches, Regressor, ToyData

from fedlight.algorithms import FedDU

ROUNDS, SCALE, DECAY, EPS = 6, 1.5, 0.9, 1e-4


class Judged(Regressor):
    """Right where the sign is."""

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val/accuracy", (self(x).sign() == y.sign()).float().mean())


class Labelled(Batches):
    """Labels are the signs of the targets."""

    def label_counts(self):
        return torch.bincount((self.y[:, 0] > 0).long(), minlength=2)

    def halves(self):
        return Labelled(self.x[::2], self.y[::2]), Labelled(self.x[1::2], self.y[1::2])


class LabelledData(ToyData):
    """The server holds a copy of the third client's examples."""

    def __init__(self):
        super().__init__()
        self.clients = [Labelled(client.x, client.y) for client in self.clients]

    def server(self):
        return self.clients[2]


def forward(weights, x):
    hidden = torch.tanh(x @ weights["hidden.weight"].T + weights["hidden.bias"])
    return hidden @ weights["out.weight"].T + weights["out.bias"]


def degree(part, population):
    """Jensen-Shannon divergence in bits; classes without examples are skipped."""
    p, q = ([count / sum(counts) for count in counts] for counts in (part, population))
    total = 0.0
    for a, b in zip(p, q, strict=True):
        total += 0.5 * (a * math.log2(2 * a / (a + b)) if a else 0.0) + 0.5 * (
            b * math.log2(2 * b / (a + b)) if b else 0
        )
    return total


def plain():
    """Returns the weights and the steps a."""
    clients, weights, steps = LabelledData().clients, start(), []
    full = torch.ones(HIDDEN, dtype=torch.bool)
    x, y = clients[2].x.double(), clients[2].y.double()
    counts = [[int((client.y <= 0).sum()), int((client.y > 0).sum())] for client in clients]
    population = [sum(column) for column in zip(*counts, strict=True)]
    own = [int((y[::2] <= 0).sum()), int((y[::2] > 0).sum())]
    for round_idx in range(ROUNDS):
        updates = [train(weights, full, client)[0] for client in CLIENTS]
        mean = {
            name: value + sum(n * u[name] for n, u in zip(SIZES, updates, strict=True)) / sum(SIZES)
            for name, value in weights.items()
        }
        accuracy = float((forward(mean, x[1::2]).sign() == y[1::2].sign()).double().mean())
        theirs, ours = degree(population, population) + EPS, degree(own, population) + EPS
        a = (1 - accuracy) * 6 * theirs / (6 * theirs + 30 * ours) * SCALE * DECAY**round_idx
        steps.append(a)
        if a > 0.001:
            leaves = {name: value.clone().requires_grad_() for name, value in mean.items()}
            loss = nn.functional.mse_loss(forward(leaves, x[::2]), y[::2])
            slopes = torch.autograd.grad(loss, list(leaves.values()))
            served = {name: value - LR * slope for (name, value), slope in zip(mean.items(), slopes, strict=True)}
            mean = {name: value + a * (served[name] - value) for name, value in mean.items()}
        weights = mean
    return weights, steps


def test_equals_plain_loops(monkeypatch):
    monkeypatch.setattr("plain_submodels.Regressor", Judged)
    weights, steps = plain()
    server = run(FedDU(scale=SCALE, decay=DECAY), ROUNDS, data=LabelledData())
    assert_equal(server, weights)
    assert server.algorithm.server_update.metrics()["server/step"] == pytest.approx(steps[-1])
    assert max(steps) > 0.001
