"""FedDUAP's pruning in plain loops: threshold over all weights, filters by rank on the server's images, once."""

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from toy import SIZES, Batches, ToyData, ToyFleet

from fedlight.algorithms import FedDUAP
from fedlight.core import Server
from fedlight.errors import ConfigError

LR, PRUNE_ROUND, RATIO = 0.5, 1, 0.55


class Net(pl.LightningModule):
    """Eight filters, of which four have small weights and one hardly ever fires."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.conv, self.out = nn.Conv2d(1, 8, 3), nn.Linear(8, 2)
        self.example_input_array = torch.zeros(2, 1, 6, 6)
        with torch.no_grad():
            self.conv.weight[::2] *= 0.1
            self.conv.bias[0] = -9.0

    def forward(self, x):
        return self.out(torch.relu(self.conv(x)).mean((2, 3)))

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val/accuracy", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=LR)


class Images(ToyData):
    """Images whose mean decides; the server's are the last client's."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.clients = [Batches(x := torch.randn(n, 1, 6, 6, generator=generator), (x.mean((1, 2, 3)) > 0).long())
                        for n in SIZES]  # fmt: skip

    def server(self):
        return self.clients[3]


def fit(algorithm, rounds):
    server = Server(Net(), algorithm, ToyFleet(), seed=3)
    pl.Trainer(
        max_epochs=rounds, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=0,
    ).fit(server, datamodule=Images())  # fmt: skip
    return server


def kept_filters(weights, images):
    """FedAP's steps 3 and 4 for the one convolution."""
    sizes = torch.cat([weights["conv.weight"].abs().flatten(), weights["out.weight"].abs().flatten()]).sort().values
    threshold = sizes[int(RATIO * len(sizes)) - 1]
    count = 8 - int(float((weights["conv.weight"].abs() < threshold).double().mean()) * 8)
    maps = torch.relu(nn.functional.conv2d(images, weights["conv.weight"], weights["conv.bias"]))
    ranks = torch.stack([torch.linalg.matrix_rank(maps[:, channel]).double().mean() for channel in range(8)])
    keep = torch.zeros(8, dtype=torch.bool)
    keep[ranks.argsort(descending=True, stable=True)[:count]] = True
    return keep


def test_equals_plain_loops():
    rounds, weights, keep = 4, {name: value.clone() for name, value in Net().state_dict().items()}, None
    server, clients = fit(FedDUAP(scale=0.0, prune_round=PRUNE_ROUND, ratio=RATIO), rounds), Images().clients
    module = Net()
    for round_idx in range(rounds):
        if round_idx == PRUNE_ROUND:
            keep = kept_filters(weights, clients[3].x)
            weights = {"conv.weight": weights["conv.weight"] * keep.view(8, 1, 1, 1), "conv.bias": weights["conv.bias"]
                       * keep, "out.weight": weights["out.weight"] * keep, "out.bias": weights["out.bias"]}  # fmt: skip
        mean = {name: torch.zeros_like(value) for name, value in weights.items()}
        for client in clients:
            module.load_state_dict(weights)
            loss = module.training_step((client.x, client.y), 0)
            slopes = torch.autograd.grad(loss, list(module.parameters()))
            for (name, value), slope in zip(weights.items(), slopes, strict=True):
                mean[name] += client.num_examples / sum(SIZES) * (value - LR * slope)
        weights = mean  # a filter that is 0 on both sides has no gradient, so it stays 0
    for name, value in server.client.state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=0, atol=1e-6)
    assert torch.equal(server.algorithm.extraction.last(server.plan, 0).keep, keep)
    assert 0 < int(keep.sum()) < 8
    assert not keep[0]
    assert {report.ratio for report in server.last_round.reports} == {RATIO}
    small = server.algorithm.extraction.cost_of(server.plan, server.algorithm.extraction.last(server.plan, 0))
    assert small == server.algorithm.extraction.cost(server.plan, RATIO)
    assert small.macs < server.algorithm.extraction.cost(server.plan, 0.0).macs


@pytest.mark.parametrize("options", [{"prune_round": -1}, {"ratio": 1.0}])
def test_bad_constants_are_refused(options):
    with pytest.raises(ConfigError, match=f"{next(iter(options))}="):
        FedDUAP(**options)
