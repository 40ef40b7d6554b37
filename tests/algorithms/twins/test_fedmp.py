"""FedMP in plain loops: E-UCB per client, filters by L1, R2SP, reward ΔLoss / |T_n - mean T|."""

import math

import numpy as np
import pytest
import torch
from plain_submodels import CLIENTS, HIDDEN, SIZES, assert_equal, eucb, largest, masks, run, seconds, span, start, train

from fedlight.algorithms import FedMP


def recovered(weights, update, keep):
    """R2SP: the trained submodel, scattered into zeros, plus the residual (the global model minus its sparse form)."""
    new = {}
    for name, mask in masks(keep).items():
        sparse = torch.where(mask, weights[name], 0.0)
        new[name] = torch.where(mask, sparse + update[name], 0.0) + (weights[name] - sparse)
    return new


@pytest.mark.parametrize("value", ["global_loss", "local_loss"])
def test_equals_plain_loops(value):
    rounds, discount, granularity, floor = 25, 0.95, 0.1, 0.2
    server = run(FedMP(value=value, discount=discount, granularity=granularity, floor=floor), rounds)
    weights, history, before = start(), {client: [] for client in CLIENTS}, None
    for round_idx in range(rounds):
        ratios = [eucb(history[client], round_idx, client, discount, granularity, high=0.8) for client in CLIENTS]
        assert [server.told[round_idx][client].ratio for client in CLIENTS] == ratios
        counts = [max(1, math.floor(HIDDEN * (1 - ratio) + 1e-9)) for ratio in ratios]
        models, losses = [], []
        for client in CLIENTS:
            keep = largest(weights["hidden.weight"].abs().sum(1), counts[client])
            update, loss = train(weights, keep, client)
            models.append(recovered(weights, update, keep))
            losses.append(loss)
        weights = {name: sum(model[name] for model in models) / len(models) for name in weights}
        times_s = np.array([seconds(client, counts[client]) for client in CLIENTS])
        told = np.full(len(losses), np.average(losses, weights=SIZES)) if value == "global_loss" else np.array(losses)
        if before is not None:
            gaps = np.maximum(np.abs(times_s - times_s.mean()), floor * times_s.mean())
            for client, reward in enumerate(span((before - told) / gaps)):
                history[client].append((round_idx, ratios[client], reward))
        before = told
    assert_equal(server, weights)
    assert len(set(ratios)) > 1
