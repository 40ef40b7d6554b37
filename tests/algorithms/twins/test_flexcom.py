"""FlexCom: g = Δ + e, s = the k largest of g, e ← g - s; each client's k is what its link has time for."""

import math

import pytest
import torch
from plain_submodels import CLIENTS, HIDDEN, SIZES, UnequalFleet, assert_equal, run, start, train

from fedlight.algorithms import FlexCom
from fedlight.core.types import Timing

SIZE = 5 * HIDDEN + 1


def sent_bytes(count):
    """The cheapest of dense, bitmap and coordinates (7 bits tell 81 entries apart)."""
    return min(4 * SIZE, math.ceil((SIZE + 32 * count) / 8), math.ceil((32 + 7) * count / 8))


def seconds(client, count):
    return (4 * SIZE + sent_bytes(count)) / 1e4 + (client + 1) * 3 * 4 * HIDDEN * SIZES[client] / 2e5


@pytest.fixture(autouse=True)
def fast_computers(monkeypatch):
    """Computing takes a 200th of the time, so that sending matters."""

    def timing(self, client, work, round_idx):
        return Timing(work.download_bytes / 1e4, (client + 1) * work.macs / 2e5, work.upload_bytes / 1e4)

    monkeypatch.setattr(UnequalFleet, "timing", timing)


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_equals_plain_loops(decay):
    rounds = 5
    server = run(FlexCom(decay=decay, min_level=0.05), rounds)
    weights, memory = start(), [dict.fromkeys(start(), 0.0) for _ in CLIENTS]
    counts, full = [SIZE] * 4, torch.ones(HIDDEN, dtype=torch.bool)
    for round_idx in range(rounds):
        if round_idx > 0:
            target_s = min(seconds(client, SIZE) for client in CLIENTS) * (1 + 1e-9)
            least = math.ceil(0.05 * SIZE)
            counts = [
                max([least, *(k for k in range(least, SIZE + 1) if seconds(client, k) <= target_s)])
                for client in CLIENTS
            ]
            assert counts[0] == SIZE > counts[1] > counts[2] == least
        sends = []
        for client in CLIENTS:
            update = train(weights, full, client)[0]
            wanted = {name: update[name] + decay * memory[client][name] for name in weights}
            flat = torch.cat([value.flatten().abs() for value in wanted.values()])
            threshold = flat.sort(descending=True).values[counts[client] - 1]
            send = {name: torch.where(value.abs() >= threshold, value, 0.0) for name, value in wanted.items()}
            memory[client] = {name: wanted[name] - send[name] for name in weights}
            sends.append(send)
            assert server.told[round_idx][client].upload_bytes == sent_bytes(counts[client])
        for name in weights:
            weights[name] = weights[name] + sum(n * s[name] for n, s in zip(SIZES, sends, strict=True)) / sum(SIZES)
    assert_equal(server, weights)
