"""Small networks for the tests of submodels: layers by keyword, and a forward function over them."""

import torch
from torch import nn
from torch.nn import functional as F

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
STEPS = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(2))
TOKENS = torch.randint(11, (2, 5), generator=torch.Generator().manual_seed(3))


class Net(nn.Module):
    """A network whose forward is the function ``run(net, *inputs)``."""

    def __init__(self, run, **members):
        super().__init__()
        self.run = run
        for name, member in members.items():
            if isinstance(member, torch.Tensor) and not isinstance(member, nn.Parameter):
                self.register_buffer(name, member, persistent=False)
            else:
                setattr(self, name, member)

    def forward(self, *inputs, **named_inputs):
        return self.run(self, *inputs, **named_inputs)


def conv(inputs, outputs, **settings):
    return nn.Conv2d(inputs, outputs, 3, padding=1, **settings)


def conv_net(norm=None, mean=True):
    """Conv(3 -> 8), a norm, ReLU, Conv(8 -> 6), mean over positions, Linear(6 -> 5)."""

    def run(net, x):
        x = net.a(x)
        x = net.b((x if net.norm is None else net.norm(x)).relu())
        return net.fc(x.mean((2, 3)))

    return Net(run, a=conv(3, 8), norm=norm, b=conv(8, 6), fc=nn.Linear(6, 5))


def shuffled(net, x):
    x = net.a(x).relu()
    batch, channels, height, width = x.shape
    x = x.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(batch, channels, height, width)
    return net.b(x).mean((2, 3))


def option_a(net, x):
    x = net.stem(x)
    short = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
    return net.fc((short + net.b(net.a(x).relu())).mean((2, 3)))


def halves(net, x):
    gate, value = net.a(x).chunk(2, 1)
    return net.b(gate.sigmoid() * value).mean((2, 3))


def two_parts(net, x):
    left, right = net.a(x).split([4, 8], 1)
    return (net.b(left) + net.c(right)).mean((2, 3))


def hand_attention(net, x):
    scores = net.q(x) @ net.k(x).transpose(1, 2)
    return net.fc(scores.softmax(-1) @ net.v(x)).mean(1)


def hand_norm(net, x):
    x = net.a(x)
    return net.fc((x * x.pow(2).mean(-1, keepdim=True).rsqrt() * net.scale).mean(1))


def no_grad_inside(net, x):
    with torch.no_grad():
        features = net.b(net.a(x).relu()).mean((2, 3))
    return net.fc(features)
