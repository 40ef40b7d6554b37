"""FedPace in plain loops: a pace that stagnation slows, alignment under the true times, CGSV weights, coverage mean."""

import math

import numpy as np
import torch
from plain_submodels import (
    CLIENTS,
    HIDDEN,
    SIZES,
    aligned,
    assert_equal,
    count_of,
    largest,
    masks,
    run,
    seconds,
    start,
    train,
)

from fedlight.algorithms import FedPace
from fedlight.parts import CosineGradient, StagnationPace


def flat(update, keep):
    return torch.cat([update[name][mask] for name, mask in masks(keep).items()])


def test_equals_plain_loops():
    """Times carry no noise, so the cost model that fedlight learns is the true one from the second round on."""
    rounds = 30
    pace = StagnationPace(0.7, 0.35, patience=1, threshold=0.2, end_quantile=1.0, quantile_step=0.5)
    server, weights = run(FedPace(pace=pace, contribution=CosineGradient(), round_to=1), rounds), start()
    level, quantile, first, best, r = 0.7, 0.0, None, None, [size / sum(SIZES) for size in SIZES]
    ratios, tempos = [0.8] * 4, set()
    for round_idx in range(rounds):
        if round_idx > 0:
            target_s = float(np.quantile([seconds(client, count_of(level)) for client in CLIENTS], quantile))
            ratios = [aligned(client, target_s, ratios[client]) for client in CLIENTS]
        assert [server.told[round_idx][client].ratio for client in CLIENTS] == ratios
        tempos.add((level, quantile))
        scores = weights["hidden.weight"].square().sum(1) + weights["hidden.bias"].square()
        scores = scores + weights["out.weight"][0].square()
        keeps = [largest(scores, count_of(ratio)) for ratio in ratios]
        updates, losses = zip(*(train(weights, keep, n) for n, keep in enumerate(keeps)), strict=True)
        lengths = [flat(update, torch.ones(HIDDEN, dtype=torch.bool)).norm() for update in updates]
        direction = {name: sum(r[n] * updates[n][name] / lengths[n] for n in CLIENTS) for name in weights}
        moved = {name: sum(r[n] * updates[n][name] for n in CLIENTS) for name in weights}
        held = {name: sum(r[n] * masks(keeps[n])[name] for n in CLIENTS) for name in weights}
        weights = {name: w + torch.where(held[name] > 0, moved[name] / held[name], 0.0) for name, w in weights.items()}
        cosines = [
            float(torch.cosine_similarity(flat(updates[n], k), flat(direction, k), 0)) for n, k in enumerate(keeps)
        ]
        r = [max(1e-3, 0.95 * share + 0.05 * cosine) for share, cosine in zip(r, cosines, strict=True)]
        r = [share / math.fsum(r) for share in r]
        loss = np.average(losses, weights=SIZES)
        first = loss if first is None else first
        if best is None or loss < best - 0.2 * first:
            best = loss
        else:
            best = None
            level, quantile = (round(level - 0.35, 6), quantile) if level > 0 else (level, min(1.0, quantile + 0.5))
    assert_equal(server, weights)
    assert len(tempos) >= 4
