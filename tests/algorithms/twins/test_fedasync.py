"""FedAsync: W ← (1 - α s(τ)) W + α s(τ) w_n for every client that is back, under its three weights by age."""

import pytest
import torch
from plain_async import play
from plain_submodels import HIDDEN, LR, assert_equal, run, seconds, start, train

from fedlight.algorithms import FedAsync
from fedlight.parts import Constant, Hinge, LeanLoop, Polynomial

EPOCHS, ALPHA, RHO = 4, 0.7, 0.9


@pytest.mark.parametrize(
    ("staleness", "by_hand"),
    [
        (Constant(), lambda age: 1.0),
        (Polynomial(0.5), lambda age: (age + 1) ** -0.5),
        (Hinge(2.0, 1.0), lambda age: 1.0 if age <= 1 else 1 / (2 * (age - 1) + 1)),
    ],
)
def test_equals_plain_loops(staleness, by_hand):
    rounds, full = 15, torch.ones(HIDDEN, dtype=torch.bool)

    def step(weights, batch, version):
        ((client, begun, sent),) = batch
        local = dict(begun)
        for _ in range(EPOCHS):
            update = train(local, full, client)[0]
            local = {name: w + update[name] - LR * RHO * (w - begun[name]) for name, w in local.items()}
        mix = ALPHA * by_hand(version - sent)
        return {name: (1 - mix) * value + mix * local[name] for name, value in weights.items()}

    server = run(FedAsync(local=LeanLoop(epochs=EPOCHS), alpha=ALPHA, rho=RHO, staleness=staleness), rounds)
    weights, came = play(rounds, 1, start(), lambda client, begun, _: (seconds(client, HIDDEN, EPOCHS), begun), step)
    assert [[(r.client, r.staleness) for r in reports] for reports in server.order] == came
    assert_equal(server, weights)
    assert max(age for batch in came for _, age in batch) >= 3
