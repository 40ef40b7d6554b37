"""The plan as others see it."""

from pathlib import Path

import pytest
import torch
import torch_pruning as tp
import torchvision
from nets import IMAGES, Net, conv, conv_net
from torch import nn

import fedlight
from fedlight import models
from fedlight.submodels import ChannelCoverage, Cost, SubmodelPlan


@pytest.fixture(scope="module")
def net():
    return conv_net(nn.BatchNorm2d(8))


@pytest.fixture(scope="module")
def plan(net):
    return SubmodelPlan.trace(net, IMAGES)


def keep_set(plan, *units):
    keep = torch.zeros(plan.num_units, dtype=torch.bool)
    keep[list(units)] = True
    return keep


def test_units_groups_and_the_full_keep(plan):
    assert plan.num_units == 14
    assert [group.name for group in plan.groups] == ["a", "b"]
    assert plan.full_keep().tolist() == [True] * 14
    assert plan.structure.num_units == 14


def test_keep_takes_the_highest_scores_of_each_group(plan):
    keep = plan.keep(torch.arange(14.0), 0.5, round_to=1)
    assert keep.nonzero().view(-1).tolist() == [4, 5, 6, 7, 11, 12, 13]


def test_signature_and_sparsity_count_units_per_group(plan):
    keep = keep_set(plan, 0, 1, 8, 9, 10)
    assert plan.signature(keep) == (2, 3)
    assert plan.coverage(keep).layer_sparsity() == {"a": 0.75, "b": 0.5}
    assert plan.coverage(plan.full_keep()).layer_sparsity() == {"a": 0.0, "b": 0.0}


def test_cost_by_hand(plan):
    keep = keep_set(plan, 0, 1, 8, 9, 10)  # Conv(3 -> 2), norm(2), Conv(2 -> 3), Linear(3 -> 5) on 8x8 images
    parameters = (2 * 3 * 9 + 2) + 2 * 2 + (3 * 2 * 9 + 3) + (5 * 3 + 5)
    macs = 64 * (2 * 3 * 9 + 3 * 2 * 9) + 5 * 3
    assert plan.cost(keep) == Cost(parameters, macs, 4 * (parameters + 2 * 2))  # the norm's two statistics travel too


def test_coverage_slices_as_the_plan_does(plan, net):
    keep = keep_set(plan, 0, 1, 8)
    coverage = plan.coverage(keep)
    assert isinstance(coverage, ChannelCoverage)
    thin = plan.slice(net.state_dict(), keep)
    assert all(torch.equal(tensor, thin[name]) for name, tensor in coverage.slice(net.state_dict()).items())


def test_fingerprint_tells_architectures_and_plans_apart(plan):
    assert SubmodelPlan.trace(conv_net(nn.BatchNorm2d(8)), IMAGES).fingerprint == plan.fingerprint
    others = [
        SubmodelPlan.trace(conv_net(), IMAGES),
        SubmodelPlan.trace(conv_net(nn.BatchNorm2d(8)), IMAGES, protect=["a"]),
        SubmodelPlan.trace(Net(lambda net, x: net.fc(net.a(x).mean((2, 3))), a=conv(3, 8), fc=nn.Linear(8, 5)), IMAGES),
    ]
    assert len({plan.fingerprint, *(other.fingerprint for other in others)}) == 4


def test_check_can_be_left_out():
    wrong = Net(lambda net, x: net.fc(net.a(x).flip(1).mean((2, 3))), a=conv(3, 8), fc=nn.Linear(8, 5))
    assert SubmodelPlan.trace(wrong, IMAGES, check=False).num_units == 8


def test_torch_pruning_is_imported_by_the_tracer_alone():
    sources = Path(fedlight.__file__).parent.rglob("*.py")
    assert [path.name for path in sources if "import torch_pruning" in path.read_text()] == ["tracer.py"]


PRUNED = {
    "mobilenet_v3_small": (lambda: torchvision.models.mobilenet_v3_small(weights=None), (2, 3, 32, 32)),
    "regnet_x_400mf": (lambda: torchvision.models.regnet_x_400mf(weights=None), (2, 3, 32, 32)),
    "squeezenet1_1": (lambda: torchvision.models.squeezenet1_1(weights=None), (2, 3, 32, 32)),
    "conv net": (lambda: conv_net(nn.BatchNorm2d(8)), (2, 3, 8, 8)),
}


@pytest.mark.parametrize("name", PRUNED)
def test_submodels_equal_what_torch_pruning_prunes(name):
    """The same units, dropped by torch-pruning's own prune() on a network whose weights are their own addresses."""
    make, shape = PRUNED[name]
    net, inputs = make().eval().double(), torch.randn(shape, dtype=torch.float64)
    address = 0.0
    for parameter in net.parameters():
        parameter.data = torch.arange(address, address + parameter.numel(), dtype=torch.float64).view(parameter.shape)
        address += parameter.numel()
    plan = SubmodelPlan.trace(net, inputs, check=False)
    keep = plan.keep(torch.rand(plan.num_units, generator=torch.Generator().manual_seed(0)), 0.5, round_to=1)
    thin = plan.slice(net.state_dict(), keep)

    for group in plan.groups:
        owner = plan.structure.axes[f"{group.name}.weight"][0]
        dropped = (~keep[owner] & (owner >= 0)).nonzero().view(-1).tolist()
        graph = tp.DependencyGraph().build_dependency(net, (inputs,), verbose=False)
        layer = net.get_submodule(group.name)
        graph.get_pruning_group(layer, graph.get_pruner_of_module(layer).prune_out_channels, dropped).prune()
    pruned = dict(net.named_parameters())
    assert all(torch.equal(pruned[name], thin[name]) for name in pruned)


def test_tracing_leaves_the_global_generator_alone():
    module = models.LSTM(vocab_size=11, sequence_length=6, hidden_size=8)
    before = torch.get_rng_state()
    SubmodelPlan.trace(module, module.example_input_array)
    assert torch.equal(torch.get_rng_state(), before)
