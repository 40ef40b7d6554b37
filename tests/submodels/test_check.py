"""The self-check sees wrong maps: every axis of correct structures is spoilt in turn."""

import dataclasses

import pytest
import torch
from nets import IMAGES, STEPS, TOKENS, Net, conv, conv_net
from torch import nn

from fedlight import models
from fedlight.submodels import UnsupportedModelError
from fedlight.submodels.check import _random_keep, check_structure
from fedlight.submodels.structure import Group
from fedlight.submodels.tracer import trace_structure


def residual():
    return Net(
        lambda net, x: net.fc((net.a(x) + net.c(net.b(net.a(x)).relu())).mean((2, 3))),
        a=conv(3, 8),
        b=conv(8, 6, bias=False),
        c=conv(6, 8),
        fc=nn.Linear(8, 5),
    )


def recurrent():
    return Net(
        lambda net, x: net.fc(net.lstm(net.e(x))[0][:, -1]),
        e=nn.Embedding(11, 6),
        lstm=nn.LSTM(6, 5, num_layers=2, batch_first=True),
        fc=nn.Linear(5, 4),
    )


MODELS = {
    "batch norm": (lambda: conv_net(nn.BatchNorm2d(8)), IMAGES),
    "group norm": (lambda: conv_net(nn.GroupNorm(2, 8)), IMAGES),
    "zero weights": (lambda: zeroed(conv_net(nn.BatchNorm2d(8))), torch.zeros(2, 3, 8, 8)),
    "grouped": (
        lambda: Net(lambda net, x: net.b(net.g(net.a(x)).relu()), a=conv(3, 8), g=conv(8, 8, groups=2), b=conv(8, 5)),
        IMAGES,
    ),
    "depthwise": (
        lambda: Net(lambda net, x: net.b(net.d(net.a(x)).relu()), a=conv(3, 8), d=conv(8, 8, groups=8), b=conv(8, 5)),
        IMAGES,
    ),
    "residual": (residual, IMAGES),
    "flatten": (
        lambda: Net(lambda net, x: net.fc(net.a(x).relu().flatten(1)), a=conv(3, 6), fc=nn.Linear(6 * 64, 5)),
        IMAGES,
    ),
    "vit": (
        lambda: models.ViT(image_size=8, dim=16, depth=1, num_heads=4),
        models.ViT(image_size=8).example_input_array,
    ),
    "gpt": (lambda: models.GPT(11, 6, dim=16, depth=1, num_heads=8, num_kv_heads=2, hidden_dim=12), TOKENS),
    "lstm": (recurrent, TOKENS),
    "convnext": (
        lambda: nn.Sequential(conv(3, 8), nn.GroupNorm(1, 8), nn.PReLU(8), nn.ConvTranspose2d(8, 5, 2)),
        IMAGES,
    ),
}


def zeroed(net):
    """A fresh network as some begin: with output layers of zeros, on an example of zeros."""
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    return net


@pytest.mark.parametrize("name", MODELS)
def test_every_spoilt_axis_is_seen(name):
    torch.manual_seed(0)
    make, inputs = MODELS[name]
    net = make()
    structure = trace_structure(net, inputs)
    check_structure(net, structure, inputs)
    for tensor, axes in structure.axes.items():
        if tensor.endswith("k_proj.bias") and name == "vit":
            continue  # softmax takes away what all keys have in common: no output depends on it
        for dim, owner in enumerate(axes):
            if owner is None:
                continue
            spoilt = list(axes)
            spoilt[dim] = swapped(owner)
            wrong = dataclasses.replace(structure, axes={**structure.axes, tensor: tuple(spoilt)})
            with pytest.raises(UnsupportedModelError, match="can't be dropped"):
                check_structure(net, wrong, inputs)


def swapped(owner):
    """Exchange the units of an axis in a circle: every unit still owns as many positions."""
    units = owner[owner >= 0].unique()
    following = torch.full((int(units.max()) + 1,), -1)
    following[units] = units.roll(1)
    return torch.where(owner >= 0, following[owner.clamp(min=0)], owner)


def test_message_names_the_layer_and_its_reader():
    net = conv_net()
    structure = trace_structure(net, IMAGES)
    axes = {**structure.axes, "fc.weight": (None, structure.axes["fc.weight"][1].flip(0))}
    with pytest.raises(
        UnsupportedModelError, match=r"layer 'b': .*channels read by 'fc' can't be dropped.*protect=\['b'\]"
    ):
        check_structure(net, dataclasses.replace(structure, axes=axes), IMAGES)


def test_a_reader_of_several_tensors_is_named_once():
    net = recurrent()
    structure = trace_structure(net, TOKENS)
    axes = structure.axes["e.weight"]
    spoilt = dataclasses.replace(structure, axes={**structure.axes, "e.weight": (None, axes[1].flip(0))})
    with pytest.raises(UnsupportedModelError, match=r"layer 'e': .*channels read by 'lstm' can't be dropped"):
        check_structure(net, spoilt, TOKENS)


def test_layers_that_fail_only_together_are_both_named():
    def run(net, x):
        x = net.b(net.a(x).relu()).relu()
        return net.c(2 * x if net.a.out_features < 8 and net.b.out_features < 6 else x)

    net = Net(run, a=nn.Linear(6, 8), b=nn.Linear(8, 6), c=nn.Linear(6, 5))
    structure = trace_structure(net, STEPS)
    with pytest.raises(UnsupportedModelError, match=r"layers 'a', 'b': .* pruned together.*protect=\['b'\]"):
        check_structure(net, structure, STEPS)


@pytest.mark.parametrize("number", range(2, 9))
def test_any_two_groups_differ_in_what_they_keep_in_some_trial(number):
    groups = tuple(Group(str(index), "channels", 4 * index, 4, 1, ()) for index in range(number))
    few = [  # trials x groups
        [int(keep[group.units].sum()) <= 2 for group in groups]
        for keep in (_random_keep(groups, 4 * number, trial) for trial in range(number.bit_length()))
    ]
    assert len(set(zip(*few, strict=True))) == number


def test_forward_that_insists_on_float32_is_checked_in_float32():
    net = Net(lambda net, x: net.fc(net.a(x.float()).relu()), a=nn.Linear(6, 8), fc=nn.Linear(8, 5))
    structure = trace_structure(net, STEPS)
    check_structure(net, structure, STEPS)
    axes = {**structure.axes, "a.bias": (structure.axes["a.bias"][0].flip(0),)}
    with pytest.raises(UnsupportedModelError, match="layer 'a'"):
        check_structure(net, dataclasses.replace(structure, axes=axes), STEPS)


@pytest.mark.parametrize("spoils", [True, False])
def test_what_only_training_does_is_compared_too(spoils):
    def run(net, x):
        x = net.a(x).relu()
        if net.training:
            x = x.flip(-1) if spoils else 2 * x
        return net.fc(net.drop(x))

    net = Net(run, a=nn.Linear(6, 8), drop=nn.Dropout(0.5), fc=nn.Linear(8, 5))
    structure = trace_structure(net, STEPS)
    if not spoils:
        check_structure(net, structure, STEPS)
        return
    with pytest.raises(UnsupportedModelError, match=r"^Net in training mode: the submodel's outputs differ"):
        check_structure(net, structure, STEPS)


def test_chance_in_training_is_no_fault():
    net = Net(
        lambda net, x: net.fc(nn.functional.dropout(net.a(x).relu(), 0.5, net.training)),
        a=nn.Linear(6, 8),
        fc=nn.Linear(8, 5),
    )
    check_structure(net, trace_structure(net, STEPS), STEPS)
