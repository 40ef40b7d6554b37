"""PruneFL in plain loops: one client first, then all under one mask that is chosen by g² per second."""

from itertools import pairwise

import pytest
import torch
from plain_masks import MASKED, gradients, masked, sent_bytes
from plain_submodels import CLIENTS, HIDDEN, LR, SIZES, assert_equal, run, start

from fedlight.algorithms import PruneFL

FIXED_S, BYTE_S, PRUNABLE, FIRST, EVERY = 3.0, 0.05, 0.4, 2, 3


def chosen(weights, masks, squares):
    """Protect the largest of what is kept, then take by g² / t while that is above Δ / T."""
    taken = {name: torch.zeros_like(mask) for name, mask in masks.items()}
    for name, mask in masks.items():
        held = [tuple(index) for index in mask.nonzero().tolist()]
        held.sort(key=lambda index, name=name: -float(weights[name][index].abs()))
        for index in held[: len(held) - int(PRUNABLE * len(held) + 1e-9)]:
            taken[name][index] = True
    kept = sum(int(mask.sum()) for mask in masks.values())
    num_bytes = 4 * (HIDDEN + 1) + sum(sent_bytes(mask) for mask in masks.values())
    base_s = FIXED_S + BYTE_S * (num_bytes - 4 * kept)  # c, and biases and the mask itself
    gain = float(squares["hidden.bias"].sum() + squares["out.bias"].sum())
    gain += sum(float(squares[name][taken[name]].sum()) for name in MASKED)
    time_s = base_s + 4 * BYTE_S * sum(int(mask.sum()) for mask in taken.values())
    pool = [
        (float(squares[name][tuple(i)]), name, tuple(i)) for name in MASKED for i in (~taken[name]).nonzero().tolist()
    ]
    for square, name, index in sorted(pool, key=lambda one: -one[0]):
        if square / (4 * BYTE_S) <= gain / time_s:
            break
        taken[name][index] = True
        gain, time_s = gain + square, time_s + 4 * BYTE_S
    return taken


@pytest.mark.parametrize(("tolerance", "alone"), [(1.0, 6), (0.0, 10)])
def test_a_settled_size_ends_stage_one_early(tolerance, alone):
    """At the default length: no size changes by more than all of it, so the fifth pruning, in round 5, settles it."""
    algorithm = PruneFL(tolerance=tolerance, prunable=PRUNABLE, fixed_s=FIXED_S, s_per_mac=0.0, s_per_byte=BYTE_S)
    server = run(algorithm, 12)
    assert [len(told) for told in server.told] == [1] * alone + [len(CLIENTS)] * (12 - alone)


def test_equals_plain_loops():
    rounds = 12
    server = run(
        PruneFL(initial_rounds=FIRST, prune_every=EVERY, prunable=PRUNABLE, half_life=1e15, fixed_s=FIXED_S,
                s_per_mac=0.0, s_per_byte=BYTE_S),
        rounds,
    )  # fmt: skip
    (first,) = server.told[0]
    weights, squares, examples, sizes = start(), None, 0, []
    masks = {name: torch.ones_like(weights[name], dtype=torch.bool) for name in MASKED}
    for round_idx in range(rounds):
        if round_idx in range(1, FIRST + 1) or (round_idx > FIRST and (round_idx - FIRST) % EVERY == 0):
            masks = chosen(weights, masks, {name: value / examples for name, value in squares.items()})
            squares, examples = None, 0
        sizes.append(sum(int(mask.sum()) for mask in masks.values()))
        cohort = [first] if round_idx < FIRST else CLIENTS
        assert set(server.told[round_idx]) == set(cohort)
        assert server.told[round_idx][first].ratio == pytest.approx(1 - sizes[-1] / (4 * HIDDEN))
        weights = masked(weights, masks)
        slopes = {client: gradients(weights, client)[0] for client in cohort}
        squares = squares or {name: torch.zeros_like(value) for name, value in weights.items()}
        for client in cohort:
            squares = {name: value + SIZES[client] * slopes[client][name] ** 2 for name, value in squares.items()}
            examples += SIZES[client]
        total = sum(SIZES[client] for client in cohort)
        mean = {n: sum(SIZES[client] / total * slopes[client][n] for client in cohort) for n in weights}
        weights = {name: value - LR * masked(mean, masks)[name] for name, value in weights.items()}
    assert_equal(server, weights)
    assert len(set(sizes)) >= 4
    assert any(later > before for before, later in pairwise(sizes))  # weights came back
