"""The models that must work: every operation of a plan at three ratios, and the cost against a counted forward."""

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fedlight import models
from fedlight.submodels import SubmodelPlan

RATIOS = (0.25, 0.5, 0.75)
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))

TORCHVISION = (
    "resnet18",
    "resnet50",
    "vgg11_bn",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "densenet121",
    "resnext50_32x4d",
    "efficientnet_b0",
    "squeezenet1_1",
    "regnet_x_400mf",
    "convnext_tiny",
)
OWN = {
    "ViT": lambda: models.ViT(dim=32, depth=2, num_heads=4, image_size=16),
    "ViT fused": lambda: models.ViT(dim=32, depth=2, num_heads=4, image_size=16, fused=True, pooling="mean"),
    "GPT": lambda: models.GPT(vocab_size=11, context_length=8, dim=32, depth=2, hidden_dim=40),
    "GroupNorm ResNet": lambda: models.ResNet18(norm="group"),
    "InstanceNorm ResNet": lambda: models.ResNet18(norm="instance", width=16),
    "ResNet": lambda: models.ResNet18(),
    "TextCNN": lambda: models.TextCNN(vocab_size=11, num_classes=4, sequence_length=12, embedding_dim=16, channels=24),
    "LSTM": lambda: models.LSTM(vocab_size=11, sequence_length=6, hidden_size=32),
    "MLP": lambda: models.MLP(in_features=12, hidden=(32, 24)),
    "MLPRegressor": lambda: models.MLPRegressor(in_features=12, hidden=(32, 24)),
    "ConvNet": lambda: models.ConvNet(),
    "VGG11": lambda: models.VGG11(),
    "MobileNetV2": lambda: models.MobileNetV2(),
}


def torchvision_net(name):
    if name != "vgg11_bn":
        return getattr(torchvision.models, name)(weights=None)
    net = torchvision.models.vgg11_bn(weights=None, init_weights=False)
    # 124 of its 133 million parameters are in these three layers: as wide as they are in the slow test alone.
    net.classifier[0], net.classifier[3], net.classifier[6] = nn.Linear(25088, 64), nn.Linear(64, 64), nn.Linear(64, 10)
    return net


def one(name):
    torch.manual_seed(0)
    if name in OWN:
        module = OWN[name]()
        return module, module.example_input_array
    return torchvision_net(name), IMAGES


def counted_macs(module, inputs):
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        module(inputs)
    macs = counter.get_total_flops() / 2
    for layer in module.modules():
        if isinstance(layer, nn.LSTM):  # the counter doesn't see into it: every weight is used once per step
            macs += inputs.numel() * sum(p.numel() for n, p in layer.named_parameters() if n.startswith("weight"))
    return macs / len(inputs)


@pytest.mark.parametrize("name", [*TORCHVISION, *OWN])
def test_model_at_three_ratios(name):
    check_model(*one(name))


@pytest.mark.slow
def test_vgg11_bn_at_its_full_width():
    check_model(torchvision.models.vgg11_bn(weights=None, init_weights=False), IMAGES)


def check_model(module, inputs):
    plan = SubmodelPlan.trace(module, inputs)
    state = module.state_dict()
    zeros = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    generator = torch.Generator().manual_seed(0)
    for ratio in RATIOS:
        keep = plan.keep(torch.rand(plan.num_units, generator=generator), ratio)
        thin = plan.slice(state, keep)
        sub = plan.build(module, keep)
        assert type(sub) is type(module)
        check_round_trip(plan, state, zeros, thin, keep)
        check_tensors(sub, thin)
        check_cost(plan, keep, sub, inputs)
        check_training(sub, inputs)
        assert all(0 < share < 1 for share in plan.coverage(keep).layer_sparsity().values())
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())


def check_round_trip(plan, state, zeros, thin, keep):
    again = plan.regrow(thin, keep, base=state)
    assert all(torch.equal(again[name], state[name]) for name in state)
    back = plan.slice(plan.regrow(thin, keep, base=zeros), keep)
    assert all(torch.equal(back[name], thin[name]) for name in thin)


def check_tensors(sub, thin):
    built = sub.state_dict()
    assert built.keys() == thin.keys()
    assert all(torch.equal(built[name], thin[name]) for name in thin)


def check_cost(plan, keep, sub, inputs):
    cost = plan.cost(keep)
    assert cost.parameters == sum(parameter.numel() for parameter in sub.parameters())
    floats = [tensor for tensor in sub.state_dict().values() if tensor.is_floating_point()]
    assert cost.num_bytes == sum(4 * tensor.numel() for tensor in floats)
    assert cost.macs == counted_macs(sub.eval(), inputs)


def check_training(sub, inputs):
    norms = [layer for layer in sub.modules() if isinstance(layer, nn.BatchNorm2d)]
    before = [layer.running_var.clone() for layer in norms]
    output = sub.train()(inputs)
    output.square().sum().backward()
    assert output.isfinite().all()
    assert all(parameter.grad is not None for parameter in sub.parameters())
    assert all(not torch.equal(layer.running_var, old) for layer, old in zip(norms, before, strict=True))
    assert all(len(layer.running_mean) == layer.num_features == len(layer.weight) for layer in norms)
