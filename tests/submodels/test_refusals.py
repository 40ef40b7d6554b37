"""Models that can't be pruned soundly are refused, and the way out that the message names works."""

import itertools
import re

import pytest
import torch
from nets import (
    IMAGES,
    STEPS,
    TOKENS,
    Net,
    conv,
    conv_net,
    halves,
    hand_attention,
    hand_norm,
    option_a,
    shuffled,
    two_parts,
)
from torch import nn
from torch.nn import functional as F

from fedlight.submodels import SubmodelPlan, UnsupportedModelError

# name: (network, example inputs, words of the message)
PATTERNS = {
    "channel-last flatten": (
        lambda: Net(
            lambda net, x: net.fc(net.a(x).relu().permute(0, 2, 3, 1).flatten(1)), a=conv(3, 4), fc=nn.Linear(256, 5)
        ),
        IMAGES,
        "flatten channels first",
    ),
    "channel shuffle": (lambda: Net(shuffled, a=conv(3, 8), b=conv(8, 5)), IMAGES, "leave their order alone"),
    "cat, flatten, linear": (
        lambda: Net(
            lambda net, x: net.fc(torch.cat([net.a(x), net.b(x)], 1).relu().flatten(1)),
            a=conv(3, 4),
            b=conv(3, 4),
            fc=nn.Linear(512, 5),
        ),
        IMAGES,
        "pool to 1x1",
    ),
    "flatten, cat, linear": (
        lambda: Net(
            lambda net, x: net.fc(torch.cat([net.a(x).relu().flatten(1), net.b(x).relu().flatten(1)], 1)),
            a=conv(3, 4),
            b=conv(3, 4),
            fc=nn.Linear(512, 5),
        ),
        IMAGES,
        "pool to 1x1",
    ),
    "tokens flattened": (
        lambda: Net(lambda net, x: net.fc(net.a(x).relu().flatten(1)), a=nn.Linear(6, 8), fc=nn.Linear(40, 5)),
        STEPS,
        "average over positions",
    ),
    "conv flatten beside a linear layer over steps": (
        lambda: Net(
            lambda net, x: net.fc(net.a(x).relu().flatten(1)) + net.c(net.b(x.flatten(2)).relu()).mean(1),
            a=conv(3, 4),
            fc=nn.Linear(256, 5),
            b=nn.Linear(64, 8),
            c=nn.Linear(8, 5),
        ),
        IMAGES,
        "average over positions",
    ),
    "pixel shuffle": (
        lambda: Net(lambda net, x: net.b(F.pixel_shuffle(net.a(x), 2)).mean((2, 3)), a=conv(3, 16), b=conv(4, 5)),
        IMAGES,
        "replace the shuffle",
    ),
    "padded shortcut": (
        lambda: Net(option_a, stem=conv(3, 4), a=conv(4, 8, stride=2), b=conv(8, 8), fc=nn.Linear(8, 5)),
        IMAGES,
        "padded shortcut by a 1x1 convolution",
    ),
    "chunk": (lambda: Net(halves, a=conv(3, 16), b=conv(8, 5)), IMAGES, "give each part of the split a layer"),
    "split in unequal parts": (
        lambda: Net(two_parts, a=conv(3, 12), b=conv(4, 5), c=conv(8, 5)),
        IMAGES,
        "give each part of the split a layer",
    ),
    "gated linear unit": (
        lambda: Net(lambda net, x: net.fc(F.glu(net.a(x), -1).mean(1)), a=nn.Linear(6, 8), fc=nn.Linear(4, 5)),
        STEPS,
        "give each part of the split a layer",
    ),
    "slice of channels": (
        lambda: Net(lambda net, x: net.fc(net.a(x)[:, ::2].mean((2, 3))), a=conv(3, 8), fc=nn.Linear(4, 5)),
        IMAGES,
        "give each part of the split a layer",
    ),
    "nn.MultiheadAttention": (
        lambda: Net(
            lambda net, x: net.fc(net.a(net.e(x), net.e(x), net.e(x))[0].mean(1)),
            e=nn.Linear(6, 8),
            a=nn.MultiheadAttention(8, 2, batch_first=True),
            fc=nn.Linear(8, 5),
        ),
        STEPS,
        "fedlight.models.attention.Attention",
    ),
    "bidirectional LSTM": (
        lambda: Net(
            lambda net, x: net.fc(net.a(x)[0].mean(1)),
            a=nn.LSTM(6, 8, bidirectional=True, batch_first=True),
            fc=nn.Linear(16, 5),
        ),
        STEPS,
        "use one direction without projection",
    ),
    "projected LSTM": (
        lambda: Net(
            lambda net, x: net.fc(net.a(x)[0].mean(1)),
            a=nn.LSTM(6, 8, proj_size=4, batch_first=True),
            fc=nn.Linear(4, 5),
        ),
        STEPS,
        "use one direction without projection",
    ),
    "weight used by a function": (
        lambda: Net(
            lambda net, x: net.fc(torch.einsum("btd,od->bto", net.a(x), net.b.weight).relu().mean(1)),
            a=nn.Linear(6, 7),
            b=nn.Linear(7, 8),
            fc=nn.Linear(8, 5),
        ),
        STEPS,
        "protect=['a']",
    ),
    "parameter used by a function": (
        lambda: Net(
            lambda net, x: net.fc(F.linear(net.a(x), net.w).relu().mean(1)),
            a=nn.Linear(6, 6),
            w=nn.Parameter(torch.randn(8, 6)),
            fc=nn.Linear(8, 5),
        ),
        STEPS,
        "protect=['a']",
    ),
    "number of channels written into a reshape": (
        lambda: Net(lambda net, x: net.fc(net.a(x).reshape(2, 8, 64).mean(2)), a=conv(3, 8), fc=nn.Linear(8, 5)),
        IMAGES,
        "write -1 for the channels",
    ),
    "maxout": (
        lambda: Net(
            lambda net, x: net.fc(net.a(x).view(2, 4, 2, 8, 8).amax(2).mean((2, 3))), a=conv(3, 8), fc=nn.Linear(4, 5)
        ),
        IMAGES,
        "two units own one position",
    ),
    "outer product": (
        lambda: Net(
            lambda net, x: net.fc((net.a(x)[:, :, None] * net.a(x)[:, None, :]).flatten(1)),
            a=nn.Linear(6, 4),
            fc=nn.Linear(16, 5),
        ),
        STEPS[:, 0],
        "protect=['a']",
    ),
    "attention by hand": (
        lambda: Net(hand_attention, q=nn.Linear(6, 8), k=nn.Linear(6, 8), v=nn.Linear(6, 8), fc=nn.Linear(8, 5)),
        STEPS,
        "protect=['q']",
    ),
    "norm by hand": (
        lambda: Net(hand_norm, a=nn.Linear(6, 8), scale=nn.Parameter(torch.ones(8)), fc=nn.Linear(8, 5)),
        STEPS,
        "nn.RMSNorm",
    ),
    "norm over positions too": (lambda: conv_net(nn.LayerNorm((8, 8, 8))), IMAGES, "nn.LayerNorm"),
    "local response norm": (lambda: conv_net(nn.LocalResponseNorm(3)), IMAGES, "protect=['a']"),
    "softmax over channels": (lambda: conv_net(nn.Softmax(1)), IMAGES, "what mixes channels"),
    "rolled channels": (
        lambda: Net(lambda net, x: net.fc(net.a(x).roll(1, 1).mean((2, 3))), a=conv(3, 8), fc=nn.Linear(8, 5)),
        IMAGES,
        "what mixes channels",
    ),
    "group norm across a concatenation": (
        lambda: Net(
            lambda net, x: net.fc(net.norm(torch.cat([net.a(x), net.b(x)], 1)).relu().mean((2, 3))),
            a=conv(3, 8),
            b=conv(3, 4),
            norm=nn.GroupNorm(3, 12),
            fc=nn.Linear(12, 5),
        ),
        IMAGES,
        "protect=['a']",
    ),
    "bilinear layer": (
        lambda: Net(
            lambda net, x: net.fc(net.b(net.a(x), net.a(x))),
            a=nn.Linear(6, 8),
            b=nn.Bilinear(8, 8, 6),
            fc=nn.Linear(6, 5),
        ),
        STEPS[:, 0],
        "protect=['a']",
    ),
}


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("pattern", PATTERNS)
def test_pattern_is_refused_and_the_way_out_works(pattern):
    make, inputs, words = PATTERNS[pattern]
    torch.manual_seed(0)
    net = make()
    with pytest.raises(UnsupportedModelError, match=re.escape(words)) as refusal:
        SubmodelPlan.trace(net, inputs)
    message = str(refusal.value)
    assert "\n" not in message

    layer = re.search(r"protect=\['(.+?)'\]", message)[1]
    others = ["b"] if pattern == "group norm across a concatenation" else []  # refused in turn
    plan = SubmodelPlan.trace(net, inputs, protect=[layer, *others])  # passes the check
    assert all(tensor != f"{layer}.weight" or dim != 0 for group in plan.groups for tensor, dim in group.tensors)


def tied():
    embedding, out = nn.Embedding(11, 8), nn.Linear(8, 11, bias=False)
    out.weight = embedding.weight
    return Net(lambda net, x: net.out(net.hidden(net.e(x)).relu()), e=embedding, hidden=nn.Linear(8, 8), out=out)


def shared_storage():
    net = tied()
    net.out.weight = nn.Parameter(net.e.weight.data)
    return net


class TrainingHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.fc, self.aux = conv(3, 8), nn.Linear(8, 5), nn.Linear(8, 5)

    def forward(self, x):
        x = self.a(x).mean((2, 3))
        return (self.fc(x), self.aux(x)) if self.training else self.fc(x)


def weight_norm(layer):
    return nn.utils.parametrizations.weight_norm(layer)


WHOLE_MODELS = {
    "tied weights": (tied, TOKENS, r"'e.weight' and 'out.weight' are one tied tensor.*a tensor of its own"),
    "shared storage": (shared_storage, TOKENS, r"'e.weight' and 'out.weight' are one tied tensor"),
    "parametrization": (
        lambda: Net(lambda net, x: net.fc(net.a(x).mean((2, 3))), a=weight_norm(conv(3, 8)), fc=nn.Linear(8, 5)),
        IMAGES,
        r"layer 'a' computes its weight from others.*remove_parametrizations",
    ),
    "lazy layer": (
        lambda: Net(lambda net, x: net.fc(net.a(x).relu()), a=nn.LazyLinear(8), fc=nn.Linear(8, 5)),
        STEPS,
        r"'a.weight' is lazy: run one forward pass",
    ),
    "compiled": (lambda: torch.compile(conv_net(), backend="eager"), IMAGES, r"compiled: trace it first"),
    "random in evaluation": (
        lambda: Net(lambda net, x: net.fc(F.dropout(net.a(x), 0.5, True)), a=nn.Linear(6, 8), fc=nn.Linear(8, 5)),
        STEPS,
        r"different outputs for the same inputs.*self.training",
    ),
    "branch on the data": (
        lambda: Net(
            lambda net, x: net.fc(net.a(x) if x.mean() > 0 else net.b(x)),
            a=nn.Linear(6, 8),
            b=nn.Linear(6, 8),
            fc=nn.Linear(8, 5),
        ),
        STEPS.abs(),
        r"runs layer '[ab]' for some inputs only",
    ),
    "head in training alone": (TrainingHead, IMAGES, r"runs layer 'aux' in training alone.*leave it out"),
    "wrong example": (
        lambda: conv_net(),
        STEPS,
        r"Net.forward fails on the example inputs \(RuntimeError.*give inputs",
    ),
    "no gradients": (
        lambda: Net(lambda net, x: net.a(x).argmax(1), a=conv(3, 8)),
        IMAGES,
        r"Net returns nothing that gradients flow to",
    ),
    "can't be copied": (
        lambda: Net(lambda net, x: net.fc(x), fc=nn.Linear(6, 5), rows=(row for row in range(3))),
        STEPS,
        r"Net can't be copied \(TypeError.*attributes",
    ),
    "overflow": (
        lambda: Net(lambda net, x: net.fc((net.a(x) * 1e200) ** 2), a=nn.Linear(6, 8), fc=nn.Linear(8, 5)),
        STEPS,
        r"infinite outputs or NaN",
    ),
}


@pytest.mark.parametrize("model", WHOLE_MODELS)
def test_model_is_refused_in_one_line(model):
    make, inputs, words = WHOLE_MODELS[model]
    with pytest.raises(UnsupportedModelError, match=words) as refusal:
        SubmodelPlan.trace(make(), inputs)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("time_limit_s", [0.5, 8.5])
def test_walk_that_takes_too_long_is_stopped(monkeypatch, time_limit_s):
    """The clock is a second later at every look: the first limit passes while the graph is built, the other behind."""
    looks = itertools.count()
    monkeypatch.setattr("fedlight.submodels.tracer.time.monotonic", lambda: float(next(looks)))
    with pytest.raises(UnsupportedModelError, match=rf"tracing.* took more than {time_limit_s} s.*time_limit_s"):
        SubmodelPlan.trace(conv_net(), IMAGES, time_limit_s=time_limit_s)
    assert time_limit_s < next(looks) < time_limit_s + 3


def test_pattern_that_protects_nothing_is_named():
    with pytest.raises(UnsupportedModelError, match=r"protect='backbone\.\*' matches no layer"):
        SubmodelPlan.trace(conv_net(), IMAGES, protect=["backbone.*"])


def test_nothing_to_prune_is_a_plan_for_ratio_zero_alone():
    plan = SubmodelPlan.trace(nn.Linear(6, 5), STEPS)
    assert plan.num_units == 0
    assert plan.keep(torch.zeros(0), 0.0).tolist() == []
    with pytest.raises(UnsupportedModelError, match=r"no units.*ratio 0"):
        plan.keep(torch.zeros(0), 0.5)
