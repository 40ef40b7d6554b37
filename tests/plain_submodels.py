"""The toy's regressor pruned and trained by hand: what the twins of the algorithms share, without fedlight's parts.

Weights are a dict of float64 tensors: ``hidden.weight`` [16, 3], ``hidden.bias`` [16], ``out.weight`` [1, 16],
``out.bias`` [1]. A submodel is a set of hidden units.
"""

import itertools
import math

import lightning.pytorch as pl
import numpy as np
import torch
from toy import SIZES, Regressor, ToyData, ToyFleet

from fedlight.core import Server
from fedlight.core.seeds import numpy_generator
from fedlight.core.types import Timing

HIDDEN, LR, SEED = 16, 0.05, 3
CLIENTS = range(len(SIZES))


class UnequalFleet(ToyFleet):
    """Client n computes (n + 1) times slower than client 0, links are alike."""

    def timing(self, client, work, round_idx):
        return Timing(work.download_bytes / 1e4, (client + 1) * work.macs / 1e3, work.upload_bytes / 1e4)


def seconds(client, count, epochs=1):
    """Time of a client on that fleet for a submodel of so many hidden units: 4 MACs and 5 parameters per unit."""
    num_bytes = 4 * (5 * count + 1)
    return 2 * num_bytes / 1e4 + (client + 1) * 3 * 4 * count * SIZES[client] * epochs / 1e3


def run(algorithm, rounds, lr=LR, data=None):
    """Train the toy by fedlight; return the server, with the reports of every round in ``server.told`` by client.

    ``server.order`` has them in the order of their return: a client may come twice where the server doesn't wait.
    """

    class Told(pl.Callback):
        def on_train_batch_end(self, trainer, server, *_):
            server.told.append({report.client: report for report in server.last_round.reports})
            server.order.append(server.last_round.reports)

    torch.manual_seed(0)
    server = Server(Regressor(HIDDEN, lr), algorithm, UnequalFleet(), seed=SEED)
    server.told, server.order = [], []
    pl.Trainer(
        max_epochs=rounds, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=0, callbacks=[Told()],
    ).fit(server, datamodule=data or ToyData())  # fmt: skip
    return server


def start():
    """Weights that every run starts from."""
    torch.manual_seed(0)
    return {name: value.double() for name, value in Regressor(HIDDEN, LR).state_dict().items()}


def assert_equal(server, weights):
    """Equal to 1e-6, and moved."""
    for name, value in server.client.state_dict().items():
        torch.testing.assert_close(value.double(), weights[name], rtol=0, atol=1e-6)
        assert (value - start()[name]).abs().max() > 1e-3


def masks(keep):
    """Which entries a submodel of these units holds."""
    return {"hidden.weight": keep[:, None].expand(-1, 3), "hidden.bias": keep, "out.weight": keep[None],
            "out.bias": torch.ones(1, dtype=torch.bool)}  # fmt: skip


def largest(scores, count):
    """The units of the largest scores."""
    keep = torch.zeros(HIDDEN, dtype=torch.bool)
    keep[scores.argsort(descending=True)[:count]] = True
    return keep


def train(weights, keep, client):
    """One step of SGD on the client's whole data; returns the update in full shape, zero elsewhere, and the loss."""
    data = ToyData().clients[client]
    x, y = data.x.double(), data.y.double()
    thin = {
        "hidden.weight": weights["hidden.weight"][keep], "hidden.bias": weights["hidden.bias"][keep],
        "out.weight": weights["out.weight"][:, keep], "out.bias": weights["out.bias"],
    }  # fmt: skip
    thin = {name: value.clone().requires_grad_() for name, value in thin.items()}
    hidden = torch.tanh(x @ thin["hidden.weight"].T + thin["hidden.bias"])
    loss = ((hidden @ thin["out.weight"].T + thin["out.bias"] - y) ** 2).mean()
    update = {name: torch.zeros_like(value) for name, value in weights.items()}
    for (name, mask), slope in zip(masks(keep).items(), torch.autograd.grad(loss, list(thin.values())), strict=True):
        update[name][mask] = -LR * slope.flatten()
    return update, float(loss.detach())


def eucb(history, round_idx, seed_client, discount, granularity, high):
    """FedMP's choice: ``history`` is a list of (round, ratio, reward) of one agent, ratios lie in [0, high)."""
    borders = [0.0, high]
    for _, ratio, _ in history:
        low, up = max(b for b in borders if b <= ratio), min(b for b in borders if b > ratio)
        if up - low > granularity and ratio > low:
            borders = sorted([*borders, ratio])
    leaves = list(itertools.pairwise(borders))
    counts = [sum(discount ** (round_idx - s) for s, ratio, _ in history if low <= ratio < up) for low, up in leaves]
    sums = [sum(discount ** (round_idx - s) * r for s, ratio, r in history if low <= ratio < up) for low, up in leaves]
    log = math.log(max(1.0, sum(counts)))
    index = [t / n + math.sqrt(2 * log / n) if n else math.inf for n, t in zip(counts, sums, strict=True)]
    rng = numpy_generator(SEED, round_idx, seed_client, "ratio")
    tied = [leaf for leaf, value in enumerate(index) if value == max(index)]
    low, up = leaves[tied[0] if len(tied) == 1 else tied[rng.integers(len(tied))]]
    return round(float(rng.uniform(low, up)), 4)


def ucb(history, round_idx, client, num_arms, discount, bonus):
    """The arm of the highest discounted mean plus bonus, untried ones first; ``history`` is (round, arm, reward)."""
    weighed = [(discount ** (round_idx - s), arm, reward) for s, arm, reward in history]
    counts = [sum(weight for weight, arm, _ in weighed if arm == j) for j in range(num_arms)]
    sums = [sum(weight * reward for weight, arm, reward in weighed if arm == j) for j in range(num_arms)]
    log = math.log(max(1.0, sum(counts)))
    index = [t / n + bonus * math.sqrt(2 * log / n) if n else math.inf for n, t in zip(counts, sums, strict=True)]
    tied = [arm for arm, value in enumerate(index) if value == max(index)]
    rng = numpy_generator(SEED, round_idx, client, "ratio")
    return tied[0] if len(tied) == 1 else tied[rng.integers(len(tied))]


def best(scores, count, among):
    """Mask of the ``count`` best entries among those given."""
    flat = torch.where(among, scores, -math.inf).flatten()
    mask = torch.zeros_like(flat, dtype=torch.bool)
    mask[flat.argsort(descending=True)[:count]] = True
    return mask.view(scores.shape)


def count_of(ratio):
    """Hidden units that stay."""
    return max(1, round(HIDDEN * (1 - ratio)))


def aligned(client, target_s, old):
    """The smallest hundredth whose time meets the target; the old ratio while that is within a tenth; 0 if it fits."""
    if seconds(client, HIDDEN) <= target_s * (1 + 1e-9):
        return 0.0
    if abs(seconds(client, count_of(old)) - target_s) <= 0.1 * target_s:
        return old
    fits = (p / 100 for p in range(96) if seconds(client, count_of(p / 100)) <= target_s * (1 + 1e-9))
    return next(fits, 0.95)


def span(values):
    """Mapped to [0, 1], ½ where all are equal."""
    values = np.asarray(values)
    width = values.max() - values.min()
    return (values - values.min()) / width if width > 0 else np.full(len(values), 0.5)
