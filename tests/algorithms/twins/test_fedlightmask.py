"""FedLightMask in plain loops: a discounted UCB per client, masks that settle by RigL's rule, CGSV weights."""

import math

import numpy as np
import pytest
import torch
from plain_masks import MASKED, gradients, masked, sent_bytes
from plain_submodels import CLIENTS, HIDDEN, LR, SIZES, assert_equal, best, run, span, start, ucb

from fedlight.algorithms import FedLightMask

RATIOS, DISCOUNT, BONUS, UNTIL, EVERY = (0.0, 0.3, 0.6), 0.95, 0.25, 8, 2


def revised(weights, old, ratio, share):
    """The client's masks: anew, or with a share of the old ones exchanged."""
    masks = {}
    for name in MASKED:
        scores = weights[name].abs()
        count, every = max(1, scores.numel() - round(scores.numel() * ratio)), torch.ones_like(scores, dtype=torch.bool)
        if old is None or share == 1.0 or ratio == 0.0:
            masks[name] = best(scores, count, every)
            continue
        num_old = int(old[name].sum())
        safe = best(scores, min(count, num_old - math.floor(round(share * num_old, 6))), old[name])
        masks[name] = safe | best(scores, count - int(safe.sum()), ~safe)
    return masks


def seconds(client, masks):
    """Dense kernels: all MACs, and the bytes of the cheapest encoding, both ways."""
    num_bytes = 4 * (HIDDEN + 1) + sum(sent_bytes(mask) for mask in masks.values())
    return 2 * num_bytes / 1e4 + (client + 1) * 3 * 4 * HIDDEN * SIZES[client] / 1e3


def flat(update, masks):
    return torch.cat([value[masks[name]] if name in masks else value.flatten() for name, value in update.items()])


def test_equals_plain_loops():
    rounds = 20
    server = run(
        FedLightMask(ratios=list(RATIOS), discount=DISCOUNT, bonus_scale=BONUS, value="local_loss", prune_every=EVERY,
                     prune_until=UNTIL),
        rounds,
    )  # fmt: skip
    weights, r, held = start(), [size / sum(SIZES) for size in SIZES], {}
    history, before = {client: [] for client in CLIENTS}, None
    for round_idx in range(rounds):
        arms = [ucb(history[client], round_idx, client, len(RATIOS), DISCOUNT, BONUS) for client in CLIENTS]
        assert [server.told[round_idx][client].ratio for client in CLIENTS] == [RATIOS[arm] for arm in arms]
        due = round_idx % EVERY == 0 and round_idx <= UNTIL
        share = 0.5 * (1 + math.cos(math.pi * round_idx / UNTIL)) if due else 0.0
        updates, losses = [], []
        for client in CLIENTS:
            old_arm, old = held.get(client, (None, None))
            changed = old_arm != arms[client] or share > 0
            masks = revised(weights, old, RATIOS[arms[client]], share) if changed else old
            held[client] = (arms[client], masks)
            slopes, loss = gradients(masked(weights, masks), client)
            updates.append({name: -LR * slope for name, slope in masked(slopes, masks).items()})
            losses.append(loss)
        all_masks = [held[client][1] for client in CLIENTS]
        full = {name: torch.ones_like(value, dtype=torch.bool) for name, value in weights.items()}
        lengths = [flat(update, {}).norm() for update in updates]
        direction = {name: sum(r[n] * updates[n][name] / lengths[n] for n in CLIENTS) for name in weights}
        moved = {name: sum(r[n] * updates[n][name] for n in CLIENTS) for name in weights}
        count = {name: sum(r[n] * (full | all_masks[n])[name] for n in CLIENTS) for name in weights}
        mean = {name: torch.where(count[name] > 0, moved[name] / count[name], 0.0) for name in weights}
        weights = {name: value + mean[name] for name, value in weights.items()}
        cosines = [
            float(torch.cosine_similarity(flat(updates[n], all_masks[n]), flat(direction, all_masks[n]), 0))
            for n in CLIENTS
        ]
        r = [max(1e-3, 0.95 * one + 0.05 * cosine) for one, cosine in zip(r, cosines, strict=True)]
        r = [one / math.fsum(r) for one in r]
        times_s = np.array([seconds(client, all_masks[client]) for client in CLIENTS])
        if before is not None:
            gaps = np.maximum(np.abs(times_s - times_s.mean()), 0.1 * times_s.mean())
            for client, reward in enumerate(span((np.array(before) - np.array(losses)) / gaps)):
                history[client].append((round_idx, arms[client], reward))
        before = losses
        for client in CLIENTS:
            assert server.told[round_idx][client].timing.total_s == pytest.approx(times_s[client])
    assert_equal(server, weights)
    assert len({arm for plays in history.values() for _, arm, _ in plays}) == 3
