"""SynFL: w ← w + (1/N) Σ_n (w_n - w), and a round lasts as long as its slowest client."""

import torch
from plain_submodels import CLIENTS, HIDDEN, assert_equal, run, seconds, start, train

from fedlight.algorithms import SynFL


def test_equals_plain_loops():
    server = run(SynFL(), rounds=4)
    weights, now_s = start(), 0.0
    for _ in range(4):
        full = torch.ones(HIDDEN, dtype=torch.bool)
        updates = [train(weights, full, client)[0] for client in CLIENTS]
        for name in weights:
            weights[name] = weights[name] + sum(update[name] for update in updates) / len(updates)
        now_s += max(seconds(client, HIDDEN) for client in CLIENTS)
    assert_equal(server, weights)
    assert abs(server.clock.now_s - now_s) < 1e-9
