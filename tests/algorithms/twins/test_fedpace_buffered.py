"""FedPace with a server that doesn't wait, in plain loops: T* over the clients known so far, stagnation by updates."""

import math

import numpy as np
import pytest
import torch
from plain_async import play
from plain_submodels import CLIENTS, HIDDEN, SIZES, assert_equal, count_of, largest, masks, run, seconds, start, train

from fedlight.algorithms import FedPace
from fedlight.parts import Buffered, CoverageMean, StagnationPace

WINDOW = 5


class Policy:
    """What the server believes of times, and how fast it wants to be."""

    def __init__(self):
        self.known, self.ratios, self.losses = [], {}, []
        self.level, self.quantile, self.first, self.best = 0.7, 0.0, None, None

    def predicted(self, client, count):
        """A client that was never seen is as slow as the median of its class (odd or even), or else of all."""
        if client in self.known:
            return seconds(client, count)
        alike = [known + 1 for known in self.known if known % 2 == client % 2]
        factor = np.median(alike or [known + 1 for known in self.known])
        links = seconds(client, count) - (client + 1) * 12 * count * SIZES[client] / 1e3
        return links + factor * 12 * count * SIZES[client] / 1e3

    def choose(self, client):
        if not self.known:
            return 0.8
        target_s = np.quantile([self.predicted(known, count_of(self.level)) for known in self.known], self.quantile)
        ratio, old = 0.0, self.ratios.get(client)
        if self.predicted(client, HIDDEN) > target_s * (1 + 1e-9):
            if old is not None and abs(self.predicted(client, count_of(old)) - target_s) <= 0.1 * target_s:
                ratio = old
            else:
                grid = (p / 100 for p in range(96))
                ratio = next((p for p in grid if self.predicted(client, count_of(p)) <= target_s * (1 + 1e-9)), 0.95)
        self.ratios[client] = ratio
        return ratio

    def observe(self, clients, losses):
        self.known += [client for client in dict.fromkeys(clients) if client not in self.known]
        self.losses += [(loss, SIZES[client]) for client, loss in zip(clients, losses, strict=True)]
        if len(self.losses) < WINDOW:
            return
        loss = np.average([one for one, _ in self.losses], weights=[size for _, size in self.losses])
        self.losses = []
        self.first = loss if self.first is None else self.first
        if self.best is None or loss < self.best - 0.2 * self.first:
            self.best = loss
        elif self.level > 0:
            self.level, self.best = round(self.level - 0.35, 6), None
        else:
            self.quantile, self.best = min(1.0, self.quantile + 0.5), None


def counted(moved, held, plain, late):
    """FedBuff's sum, with a gain of three at most for what few hold."""
    gain = (late / held.clamp(min=1e-12)).clamp(max=3.0)
    return gain * moved / plain


def covered(moved, held, plain, late):
    return torch.where(held > 0, moved / held, 0.0)


@pytest.mark.parametrize(("aggregation", "merge"), [(None, counted), (CoverageMean(), covered)])
def test_equals_plain_loops(aggregation, merge):
    rounds, buffer, policy, tempos, chosen = 60, 2, Policy(), set(), []

    def send(client, weights, version):
        ratio = policy.choose(client)
        scores = weights["hidden.weight"].square().sum(1) + weights["hidden.bias"].square()
        scores = scores + weights["out.weight"][0].square()
        return seconds(client, count_of(ratio)), (weights, largest(scores, count_of(ratio)), ratio)

    def step(weights, batch, version):
        moved = {name: torch.zeros_like(value) for name, value in weights.items()}
        held = {name: torch.zeros_like(value) for name, value in weights.items()}
        losses, plain, late = [], 0.0, 0.0
        for client, (begun, keep, _), sent_in in batch:
            update, loss = train(begun, keep, client)
            weight = SIZES[client] / math.sqrt(1 + version - sent_in)
            plain, late = plain + SIZES[client], late + weight
            for name, mask in masks(keep).items():
                moved[name] += weight * update[name]
                held[name] += weight * mask
            losses.append(loss)
        chosen.append([ratio for _, (_, _, ratio), _ in batch])
        policy.observe([client for client, _, _ in batch], losses)
        tempos.add((policy.level, policy.quantile))
        return {name: w + merge(moved[name], held[name], plain, late) for name, w in weights.items()}

    pace = StagnationPace(0.7, 0.35, patience=1, threshold=0.2, end_quantile=1.0, quantile_step=0.5, window=WINDOW)
    server = run(FedPace(pace=pace, schedule=Buffered(buffer), aggregation=aggregation, round_to=1), rounds)
    weights, came = play(rounds, buffer, start(), send, step)
    assert [[(r.client, r.staleness) for r in reports] for reports in server.order] == came
    assert [[r.ratio for r in reports] for reports in server.order] == chosen
    assert_equal(server, weights)
    assert len(tempos) >= 4
    assert {client for batch in came for client, _ in batch} == set(CLIENTS)
