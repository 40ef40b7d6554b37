"""Transformers through the server: FedLight cuts their heads, MLP units and stream, and merges what comes back."""

import pytest
import torch
from federation import five_clients, run

from fedlight import models
from fedlight.algorithms import FedLight
from fedlight.data import FederatedDataModule, QuantitySkew, Source, Splits, TensorExamples


class Counting(Source):
    """Sixty sequences of six tokens that count upwards from anywhere, modulo seven."""

    def load(self):
        tokens = (torch.arange(60)[:, None] + torch.arange(7)) % 7
        return Splits(train=TensorExamples(tokens[:, :-1], tokens[:, 1:]), test=None)


def tiny_gpt():
    return models.GPT(7, 6, dim=16, depth=1, num_heads=4, num_kv_heads=2, hidden_dim=16, lr=0.2)


def tiny_vit():
    return models.ViT(3, image_size=6, patch_size=3, in_channels=1, dim=16, depth=1, num_heads=4, lr=0.2)


def counting_clients():
    return FederatedDataModule(Counting(), 5, QuantitySkew(min_samples=3), batch_size=6, seed=2)


TRANSFORMERS = {"gpt": (tiny_gpt, counting_clients), "vit": (tiny_vit, five_clients)}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_fedlight_trains_thin_transformers(name):
    make, data = TRANSFORMERS[name]
    torch.manual_seed(0)
    begun = make().state_dict()  # the seed that run draws the weights from
    server = run(FedLight(ratios=(0.5,), round_to=1), rounds=2, module=make, data=data())
    assert server.round_idx == 2
    assert {group.kind for group in server.plan.groups} == {"heads", "channels"}
    assert len(server.plan.groups) == 3  # heads, hidden units of the MLP, stream
    record = server.last_round
    assert sorted(report.client for report in record.reports) == [0, 1, 2, 3, 4]
    assert all(report.accepted for report in record.reports)
    assert set(record.layer_sparsity.values()) == {0.5}
    ended = server.client.state_dict()
    assert all(value.isfinite().all() for value in ended.values())
    for weight in ("attention.q_proj.weight", "attention.out_proj.weight"):
        assert not torch.equal(begun[f"blocks.0.{weight}"], ended[f"blocks.0.{weight}"])
