"""Which parameters hold one row per output: known for each network by its definition."""

import pytest
import torch
from nets import IMAGES, STEPS, TOKENS, Net, conv_net
from torch import nn

from fedlight.models import GPT, LSTM, ConvNet, MLPRegressor, ResNet18
from fedlight.submodels import SubmodelPlan
from fedlight.submodels.outputs import output_rows
from fedlight.submodels.structure import Structure

NO_UNITS = Structure(groups=(), axes={}, shapes={})


def found(module, inputs):
    return SubmodelPlan.trace(module, inputs, check=False).output_rows


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (ConvNet("digits"), ("layers.head.weight", "layers.head.bias")),
        (ResNet18(num_classes=7), ("head.weight", "head.bias")),
        (LSTM(12, sequence_length=5, hidden_size=12, every_step=True), ("head.weight", "head.bias")),
        (GPT(16, 4, dim=16, depth=1, num_heads=4, hidden_dim=16), ("head.weight",)),  # all widths are 16
        (MLPRegressor(3, 2), ("layers.4.weight", "layers.4.bias")),
        (MLPRegressor(3, 1), ()),  # one output has no rows to choose from
    ],
    ids=lambda value: type(value).__name__,
)
def test_models(module, expected):
    assert found(module, module.example_input_array) == expected


def test_a_tied_embedding_is_no_row_per_output():
    """Row v of the table is read for token v, too, so it acts on all outputs; the bias acts on one."""
    net = Net(lambda net, x: net.head(net.table(x)), table=nn.Embedding(11, 4), head=nn.Linear(4, 11))
    net.head.weight = net.table.weight
    assert output_rows(net, NO_UNITS, TOKENS) == ("head.bias",)


@pytest.mark.parametrize(
    "run",
    [
        lambda net, x: (net.fc(x), net.other(x)),  # labels of which of them?
        lambda net, x: {"logits": net.fc(x)},
        lambda net, x: net.fc(x).log_softmax(-1),
        lambda net, x: net.fc(x).sum(-1, keepdim=True),
        lambda net, x: net.fc(x).sum((1, 2)),
    ],
    ids=["two outputs", "a dict", "softmax", "one output", "no dim of outputs"],
)
def test_nothing_where_rows_are_no_outputs(run):
    assert found(Net(run, fc=nn.Linear(6, 6), other=nn.Linear(6, 6)), STEPS) == ()


def test_hidden_layers_as_wide_as_the_output_are_none():
    """Not even at identity weights, with which hidden unit c acts on output c alone."""
    net = Net(lambda net, x: net.b(net.a(x).relu()), a=nn.Linear(6, 6), b=nn.Linear(6, 6))
    for layer in (net.a, net.b):
        nn.init.eye_(layer.weight)
    assert found(net, STEPS) == ("b.weight", "b.bias")


def test_scales_of_outputs_count_and_so_do_frozen_and_zero_weights():
    net = Net(lambda net, x: net.fc(x) * net.scale, fc=nn.Linear(6, 5), scale=nn.Parameter(torch.zeros(5)))
    net.fc.weight.requires_grad_(False).zero_()
    assert found(net, torch.zeros(2, 6)) == ("scale", "fc.weight", "fc.bias")


def test_nothing_is_left_behind():
    net = conv_net(nn.BatchNorm2d(8))
    before, state = {name: value.clone() for name, value in net.state_dict().items()}, torch.get_rng_state()
    structure = SubmodelPlan.trace(net, IMAGES, check=False).structure
    assert output_rows(net, structure, IMAGES) == ("fc.weight", "fc.bias")
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def fails(net, x):
    raise RuntimeError("not in eval mode")


@pytest.mark.parametrize("run", [fails, lambda net, x: net.fc(x).detach()], ids=["an error", "no gradients"])
def test_nothing_where_it_cannot_tell(run):
    """Whether the model can be cut at all is for the tracer to say."""
    assert output_rows(Net(run, fc=nn.Linear(6, 5)), NO_UNITS, STEPS) == ()
