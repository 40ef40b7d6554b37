"""Ranks of feature maps, and FedAP's ratios by layer, by hand."""

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from toy import Batches, ToyData

from fedlight.core.desk import ServerDesk
from fedlight.errors import ConfigError
from fedlight.parts import FeatureRank, MixedImportance, Regrowth, RunningStatistics
from fedlight.parts.extraction.pruned_once import threshold_ratios
from fedlight.submodels import SubmodelPlan


class Net(pl.LightningModule):
    """One map that is the image, one that is nothing, one that is a constant; hidden units behind them."""

    def __init__(self, norm=False):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 1)
        self.norm = nn.BatchNorm2d(3) if norm else nn.Identity()
        self.hidden, self.out = nn.Linear(3, 4), nn.Linear(4, 2)
        self.example_input_array = torch.zeros(2, 1, 3, 3)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([1.0, 1.0, 0.0]).view(3, 1, 1, 1))
            self.conv.bias.copy_(torch.tensor([0.0, -99.0, 0.5]))

    def forward(self, x):
        return self.out(torch.relu(self.hidden(torch.relu(self.norm(self.conv(x))).mean((2, 3)))))


IMAGES = torch.stack([torch.eye(3), torch.ones(3, 3), torch.diag(torch.tensor([1.0, 2.0, 0.0]))]).unsqueeze(1)


@pytest.fixture
def scores(make_state):
    def of(module, max_examples=64):
        data = ToyData()
        data.clients[0] = Batches(IMAGES, torch.zeros(3))
        plan = SubmodelPlan.trace(module, (module.example_input_array,))
        desk = ServerDesk(module, data, RunningStatistics(), 0)
        state = make_state(plan=plan, weights=module.state_dict(), desk=desk)
        return dict(zip(("a", "b", "c"), FeatureRank(max_examples).scores(state, 0)[:3].tolist(), strict=True)), plan

    return of


def test_ranks_by_hand(scores):
    """Images of rank 3, 1 and 2; a dead map has rank 0, a constant one rank 1."""
    assert scores(Net())[0] == {"a": 2.0, "b": 0.0, "c": 1.0}
    assert scores(Net(), max_examples=2)[0] == {"a": 2.0, "b": 0.0, "c": 1.0}
    assert scores(Net(), max_examples=1)[0] == {"a": 3.0, "b": 0.0, "c": 1.0}


def test_ranks_are_taken_behind_the_normalisation(scores):
    module = Net(norm=True)
    module.norm.running_mean.copy_(torch.tensor([99.0, -99.0, 0.0]))  # the first map dies, the second comes to life
    assert scores(module)[0] == {"a": 0.0, "b": 2.0, "c": 1.0}


def test_layers_lose_what_lies_below_the_common_threshold(scores):
    module, (_, plan) = Net(), scores(Net())
    with torch.no_grad():
        module.conv.weight.copy_(torch.tensor([0.1, 0.2, 9.0]).view(3, 1, 1, 1))
        module.hidden.weight.fill_(1.0)
        module.out.weight.fill_(2.0)
    # 23 weights: .1, .2, twelve of 1, eight of 2, 9. The 11th smallest is 1: two of three filters lie below it.
    assert threshold_ratios(plan, module.state_dict(), 0.5).tolist() == [2 / 3, 0.0]
    # The 2nd smallest is .2: one lies below.
    assert threshold_ratios(plan, module.state_dict(), 0.1).tolist() == [1 / 3, 0.0]
    assert threshold_ratios(plan, module.state_dict(), 0.0).tolist() == [0.0, 0.0]
    with torch.no_grad():
        module.conv.weight.zero_()
    assert threshold_ratios(plan, module.state_dict(), 0.5).tolist() == [2 / 3, 0.0]  # one filter stays


def test_no_image_is_refused():
    with pytest.raises(ConfigError, match="max_examples=0 of FeatureRank"):
        FeatureRank(0)


def test_who_asks_it_needs_server_data_too():
    """Without the server's images all ranks would be 0, and units go by their place."""
    for part in (MixedImportance(FeatureRank()), Regrowth(keep=FeatureRank()), Regrowth(grow=FeatureRank())):
        assert part.needs_server_data
    assert not MixedImportance().needs_server_data
    assert not Regrowth().needs_server_data
