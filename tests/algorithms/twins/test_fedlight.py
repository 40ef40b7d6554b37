"""FedLight in plain loops: a discounted UCB per client fed by the rise of ψ, maps that settle, CGSV weights."""

import math

import numpy as np
import pytest
import torch
from plain_submodels import (
    CLIENTS,
    HIDDEN,
    SIZES,
    assert_equal,
    best,
    count_of,
    masks,
    run,
    seconds,
    span,
    start,
    train,
    ucb,
)

from fedlight.algorithms import FedLight

RATIOS, DISCOUNT, BONUS, UNTIL, EVERY, GAMMA = (0.0, 0.3, 0.6), 0.95, 0.25, 8, 2, 0.9
ALL = torch.ones(HIDDEN, dtype=torch.bool)


def revised(scores, old, ratio, share):
    """The client's units: anew, or with a share of the old ones exchanged."""
    count = count_of(ratio)
    if old is None or share == 1.0 or ratio == 0.0:
        return best(scores, count, ALL)
    safe = best(scores, min(count, math.ceil(round((1 - share) * int(old.sum()), 6))), old)
    return safe | best(scores, count - int(safe.sum()), ~safe)


def flat(update, keep):
    return torch.cat([update[name][mask] for name, mask in masks(keep).items()])


@pytest.mark.parametrize("support", ["covered", "full"])
def test_equals_plain_loops(support):
    rounds = 20
    server = run(
        FedLight(ratios=list(RATIOS), discount=DISCOUNT, bonus_scale=BONUS, prune_every=EVERY, prune_until=UNTIL,
                 support=support, moving_average=GAMMA, round_to=1),
        rounds,
    )  # fmt: skip
    weights, r, held = start(), [size / sum(SIZES) for size in SIZES], {}
    history, before = {client: [] for client in CLIENTS}, None
    for round_idx in range(rounds):
        arms = [ucb(history[client], round_idx, client, len(RATIOS), DISCOUNT, BONUS) for client in CLIENTS]
        assert [server.told[round_idx][client].ratio for client in CLIENTS] == [RATIOS[arm] for arm in arms]
        due = round_idx % EVERY == 0 and round_idx <= UNTIL
        share = 0.5 * (1 + math.cos(math.pi * round_idx / UNTIL)) if due else 0.0
        scores = weights["hidden.weight"].square().sum(1) + weights["hidden.bias"].square()
        scores = scores + weights["out.weight"][0].square()
        for client in CLIENTS:
            arm, keep = held.get(client, (None, None))
            if arm != arms[client] or share > 0:
                held[client] = (arms[client], revised(scores, keep, RATIOS[arms[client]], share))
        keeps = [held[client][1] for client in CLIENTS]
        updates = [train(weights, keeps[client], client)[0] for client in CLIENTS]
        lengths = [flat(update, ALL).norm() for update in updates]
        direction = {name: sum(r[n] * updates[n][name] / lengths[n] for n in CLIENTS) for name in weights}
        moved = {name: sum(r[n] * updates[n][name] for n in CLIENTS) for name in weights}
        count = {name: sum(r[n] * masks(keeps[n])[name] for n in CLIENTS) for name in weights}
        weights = {name: w + torch.where(count[name] > 0, moved[name] / count[name], 0) for name, w in weights.items()}
        on = keeps if support == "covered" else [ALL] * len(SIZES)
        psi = [float(torch.cosine_similarity(flat(updates[n], on[n]), flat(direction, on[n]), 0)) for n in CLIENTS]
        r = [max(1e-3, GAMMA * one + (1 - GAMMA) * cosine) for one, cosine in zip(r, psi, strict=True)]
        r = [one / math.fsum(r) for one in r]
        times_s = np.array([seconds(client, int(keeps[client].sum())) for client in CLIENTS])
        if before is not None:
            gaps = np.maximum(np.abs(times_s - times_s.mean()), 0.1 * times_s.mean())
            for client, reward in enumerate(span((np.array(psi) - np.array(before)) / gaps)):
                history[client].append((round_idx, arms[client], reward))
        before = psi
        for client in CLIENTS:
            assert server.told[round_idx][client].contribution == pytest.approx(psi[client], abs=1e-5)
    assert_equal(server, weights)
    assert len({arm for plays in history.values() for _, arm, _ in plays}) == 3
