"""CGSV in plain loops: u = Γ Δ / |Δ|, U = Σ r u, ψ = cos(u, U), r by moving average, w_n ← w_n + the largest of U."""

import math

import pytest
import torch
from plain_submodels import CLIENTS, HIDDEN, SIZES, assert_equal, run, start, train

from fedlight.algorithms import CGSV
from fedlight.parts import LeanLoop

RADIUS, ALTRUISM = 0.5, 2.0


def flat(update):
    return torch.cat([value.flatten() for value in update.values()])


def top(value, count):
    """All but the largest entries set to zero."""
    order = value.flatten().abs().argsort(descending=True)
    kept = torch.zeros_like(value.flatten())
    kept[order[:count]] = value.flatten()[order[:count]]
    return kept.view_as(value)


def reward(update, quota, scope):
    if scope == "layer":
        return {name: top(value, math.ceil(quota * value.numel())) for name, value in update.items()}
    whole, kept = flat(update), top(flat(update), math.floor(quota * len(flat(update))))
    assert len(whole) == 81
    sizes = [value.numel() for value in update.values()]
    return {n: part.view_as(v) for (n, v), part in zip(update.items(), kept.split(sizes), strict=True)}


@pytest.mark.parametrize("scope", ["layer", "vector"])
@pytest.mark.parametrize("convention", ["official", "normalised"])
def test_equals_plain_loops(scope, convention):
    rounds, full = 6, torch.ones(HIDDEN, dtype=torch.bool)
    algorithm = CGSV(
        radius=RADIUS, altruism=ALTRUISM, scope=scope, convention=convention, moving_average=0.8, local=LeanLoop()
    )
    server = run(algorithm, rounds)
    weights, models, r = start(), [start() for _ in CLIENTS], None
    for round_idx in range(rounds):
        updates = []
        for client in CLIENTS:
            update, _ = train(models[client], full, client)  # trained from its own model, then thrown away
            length = flat(update).norm()
            updates.append({name: RADIUS * value / length for name, value in update.items()})
        share = [size / sum(SIZES) for size in SIZES] if r is None else r
        merged = {name: sum(share[n] * updates[n][name] for n in CLIENTS) for name in weights}
        psi = [float(torch.cosine_similarity(flat(updates[n]), flat(merged), 0)) for n in CLIENTS]
        told = server.told[round_idx]
        assert [told[n].contribution for n in CLIENTS] == pytest.approx(psi, abs=5e-6)
        if convention == "normalised":
            positive = [max(value, 0.0) for value in psi]
            psi = [value / sum(positive) for value in positive]
        r = [max(1e-3, 0.8 * (0.0 if r is None else r[n]) + 0.2 * psi[n]) for n in CLIENTS]
        r = [value / sum(r) for value in r]
        quota = [math.tanh(ALTRUISM * value) for value in r]
        for n in CLIENTS:
            gift = reward(merged, quota[n] / max(quota), scope)
            models[n] = {name: value + gift[name] for name, value in models[n].items()}
        weights = {name: value + merged[name] for name, value in weights.items()}
    assert_equal(server, weights)
    drifts = []
    for n in CLIENTS:
        own = server.algorithm.download.weights(server.round_state(), n)
        for name, value in own.items():
            torch.testing.assert_close(value.double(), models[n][name], rtol=0, atol=1e-6)
        drifts.append(float((flat(own) - flat(server.client.state_dict())).norm()))
    assert min(drifts) < 1e-6  # who earned most all along has the global model
    assert max(drifts) > 1e-2
