"""FedProx: w ← w - lr (∇F_n(w) + μ (w - w_t)), fewer steps for slow clients, mean weighted by examples."""

import pytest
import torch
from plain_submodels import CLIENTS, HIDDEN, LR, SIZES, assert_equal, run, start, train

from fedlight.algorithms import FedProx
from fedlight.core.seeds import numpy_generator
from fedlight.parts import LeanLoop, Stragglers

EPOCHS, MU = 36, 0.7


def speed_steps(round_idx):
    """Client n computes (n + 1)·SIZES[n] units a step, client 0 four: τ_n = ⌊36 · 4 / units⌋; at first nobody knows."""
    return [EPOCHS] * 4 if round_idx == 0 else [36, 9, 4, 6]


def straggler_steps(round_idx):
    """Half of four clients straggle: those of the smallest draws; they do 1, ..., 36 epochs."""
    draws = [numpy_generator(3, round_idx, client, "straggler").random() for client in CLIENTS]
    works = [numpy_generator(3, round_idx, client, "straggler work").integers(1, EPOCHS + 1) for client in CLIENTS]
    return [works[n] if draws[n] < sorted(draws)[2] else EPOCHS for n in CLIENTS]


@pytest.mark.parametrize(("work", "steps_of"), [(None, speed_steps), (Stragglers(0.5), straggler_steps)])
def test_equals_plain_loops(work, steps_of):
    rounds = 4
    server = run(FedProx(local=LeanLoop(epochs=EPOCHS), mu=MU, work=work), rounds)
    weights, full = start(), torch.ones(HIDDEN, dtype=torch.bool)
    for round_idx in range(rounds):
        steps, updates = steps_of(round_idx), []
        for client in CLIENTS:
            local = dict(weights)
            for _ in range(steps[client]):
                step = train(local, full, client)[0]
                local = {name: w + step[name] - LR * MU * (w - weights[name]) for name, w in local.items()}
            updates.append({name: local[name] - weights[name] for name in weights})
        assert [server.told[round_idx][client].num_steps for client in CLIENTS] == list(steps)
        for name in weights:
            weights[name] = weights[name] + sum(n * u[name] for n, u in zip(SIZES, updates, strict=True)) / sum(SIZES)
    assert_equal(server, weights)
