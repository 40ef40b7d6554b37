"""UPFL in plain loops: the same filters for everyone, by L1, and w ← w + (1/N) Σ_n M (w_n - w)."""

import math

import numpy as np
from plain_submodels import CLIENTS, HIDDEN, SIZES, assert_equal, eucb, largest, run, seconds, span, start, train

from fedlight.algorithms import UPFL
from fedlight.core.seeds import SERVER


def one_round(weights, ratio):
    """Train all on the same submodel; returns new weights, mean loss and seconds."""
    count = max(1, math.floor(HIDDEN * (1 - ratio) + 1e-9))
    keep = largest(weights["hidden.weight"].abs().sum(1), count)
    trained = [train(weights, keep, client) for client in CLIENTS]
    new = {name: value + sum(update[name] for update, _ in trained) / len(trained) for name, value in weights.items()}
    loss = np.average([loss for _, loss in trained], weights=SIZES)
    return new, loss, max(seconds(client, count) for client in CLIENTS)


def test_constant_equals_plain_loops():
    server, weights = run(UPFL(ratio=0.6), rounds=4), start()
    for _ in range(4):
        weights, _, _ = one_round(weights, 0.6)
    assert_equal(server, weights)
    assert server.told[-1][0].ratio == 0.6


def test_bandit_equals_plain_loops():
    """One E-UCB for all; a round earns ΔLoss / max T, mapped among the last 20."""
    rounds, server = 30, run(UPFL(mode="bandit", discount=0.9, granularity=0.1), rounds=30)
    weights, history, earned, before = start(), [], [], None
    for round_idx in range(rounds):
        ratio = eucb(history, round_idx, SERVER, discount=0.9, granularity=0.1, high=0.8)
        assert {report.ratio for report in server.told[round_idx].values()} == {ratio}
        weights, loss, seconds_s = one_round(weights, ratio)
        if before is not None:
            earned = [*earned, (before - loss) / seconds_s][-20:]
            history.append((round_idx, ratio, span(earned)[-1]))
        before = loss
    assert_equal(server, weights)
