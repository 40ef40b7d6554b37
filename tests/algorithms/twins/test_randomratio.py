"""RandomRatio in plain loops: ratios by chance, units by L2, each entry averaged over who holds it."""

import torch
from plain_submodels import CLIENTS, HIDDEN, SEED, SIZES, assert_equal, largest, masks, run, start, train

from fedlight.algorithms import RandomRatio
from fedlight.core.seeds import numpy_generator


def test_equals_plain_loops():
    ratios, rounds = [0.0, 0.2, 0.4, 0.6, 0.8], 5
    server, weights = run(RandomRatio(round_to=1), rounds), start()
    for round_idx in range(rounds):
        scores = weights["hidden.weight"].square().sum(1) + weights["hidden.bias"].square()
        scores = scores + weights["out.weight"][0].square()
        totals = {name: torch.zeros_like(value) for name, value in weights.items()}
        held = {name: torch.zeros_like(value) for name, value in weights.items()}
        for client in CLIENTS:
            ratio = ratios[numpy_generator(SEED, round_idx, client, "ratio").integers(5)]
            assert server.told[round_idx][client].ratio == ratio
            keep = largest(scores, round(HIDDEN * (1 - ratio)))
            update, _ = train(weights, keep, client)
            for name, mask in masks(keep).items():
                totals[name] += SIZES[client] * update[name]
                held[name] += SIZES[client] * mask
        weights = {name: value + totals[name] / held[name].clamp(min=1) for name, value in weights.items()}
    assert_equal(server, weights)
