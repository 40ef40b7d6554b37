"""FedBuff: W ← W + 1/K Σ Δ_n / √(1 + τ_n) over the K updates that are in, each from the weights it started from."""

import math

import pytest
import torch
from plain_async import play
from plain_submodels import HIDDEN, assert_equal, run, seconds, start, train

from fedlight.algorithms import FedBuff


@pytest.mark.parametrize("buffer", [2, 3])
def test_equals_plain_loops(buffer):
    rounds, full = 12, torch.ones(HIDDEN, dtype=torch.bool)

    def step(weights, batch, version):
        updates = [(train(begun, full, client)[0], version - sent) for client, begun, sent in batch]
        return {
            name: value + sum(update[name] / math.sqrt(1 + age) for update, age in updates) / buffer
            for name, value in weights.items()
        }

    server = run(FedBuff(buffer=buffer), rounds)
    weights, came = play(rounds, buffer, start(), lambda client, begun, _: (seconds(client, HIDDEN), begun), step)
    assert [[(r.client, r.staleness) for r in reports] for reports in server.order] == came
    assert_equal(server, weights)
    assert max(age for batch in came for _, age in batch) >= 2
