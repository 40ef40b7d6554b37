"""Parameter counts and layouts that the literature gives."""

import pytest
import torch
from torch import nn

from fedlight.errors import ConfigError
from fedlight.models import (
    GPT,
    LSTM,
    MLP,
    VGG11,
    ConvNet,
    MLPRegressor,
    MobileNetV2,
    ResNet18,
    TextCNN,
    TorchvisionClassifier,
    ViT,
)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (ConvNet("digits"), linear(9, 16) + linear(16 * 9, 32) + linear(512, 64) + linear(64, 10)),
        (ConvNet("mnist"), 1_663_370),  # McMahan et al. 2017
        (ConvNet("fedmp"), linear(25, 32) + linear(32 * 25, 64) + linear(1024, 512) + linear(512, 10)),
        (ConvNet("cifar5x5"), linear(3 * 25, 32) + linear(32 * 25, 64) + linear(1600, 512) + linear(512, 10)),
        (ConvNet("cifar"), 1_626_442),
        (ConvNet("cifar", norm="batch"), 1_626_442 + 2 * (32 + 64)),
        (ResNet18(), 11_173_962),
        (ResNet18(norm="group"), 11_173_962),
        (VGG11(), 9_231_114),
        (VGG11(norm="none"), 9_231_114 - 2 * (64 + 128 + 2 * 256 + 4 * 512)),
        (MobileNetV2(), 3_504_872 - linear(1280, 1000) + linear(1280, 10)),  # published for 1000 classes
        (TorchvisionClassifier("resnet18", 10, 64), 11_689_512 - linear(512, 1000) + linear(512, 10)),
        (TextCNN(50, 3, embedding_dim=8, channels=4), 50 * 8 + 4 * 8 * 12 + 3 * 4 + linear(12, 3)),
        (LSTM(80, hidden_size=100), 80 * 8 + 400 * (8 + 100 + 2) + 400 * (200 + 2) + linear(100, 80)),
        (MLP(784), 199_210),  # the "2NN" of McMahan et al. 2017
        (MLPRegressor(8, hidden=(4,)), linear(8, 4) + linear(4, 1)),
        (
            ViT(dim=16, depth=1, num_heads=2, image_size=8),
            linear(48, 16) + 16 * (1 + 5) + 4 * linear(16, 16) + linear(16, 32) + linear(32, 16) + 3 * 32 + 170,
        ),
        (
            GPT(dim=16, depth=1, num_heads=4, num_kv_heads=2, hidden_dim=24),
            2 * 65 * 16 + 16 * (16 + 8 + 8 + 16) + 3 * 16 * 24 + 3 * 16,
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_number_of_parameters(module, expected):
    assert count(module) == expected


def test_the_cifar_network_is_the_benchmarks():
    expected = [
        nn.Conv2d(3, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(12544, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, 10),
    ]
    assert [repr(layer) for layer in ConvNet("cifar").layers] == [repr(layer) for layer in expected]


def test_fused_attention_has_the_same_parameters():
    sizes = {"dim": 16, "depth": 1, "num_heads": 2, "image_size": 8}
    assert count(ViT(**sizes)) == count(ViT(**sizes, fused=True)) == count(ViT(**sizes, pooling="mean")) + 32


def test_small_image_networks_reduce_32_pixels_as_published():
    network = MobileNetV2(width=0.25).network
    assert network.features(torch.zeros(1, 3, 32, 32)).shape[-2:] == (4, 4)
    resnet = ResNet18(width=8)
    assert resnet.layer1(resnet.conv1(torch.zeros(1, 3, 32, 32))).shape[-2:] == (32, 32)


def test_without_norm_the_activations_keep_their_scale():
    torch.manual_seed(0)
    network = ResNet18(width=16, norm="none").eval()
    features = network.conv1(torch.randn(2, 3, 32, 32)).relu()
    behind = network.layer4(network.layer3(network.layer2(network.layer1(features))))
    assert 0.1 < behind.std() / features.std() < 10


def test_the_group_norm_resnet_has_no_batch_norm():
    modules = list(ResNet18(width=16, norm="group").modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in modules)
    assert {module.num_groups for module in modules if isinstance(module, nn.GroupNorm)} == {8}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ConvNet("lenet"), "no variant 'lenet'"),
        (lambda: ResNet18(norm="layer"), "no norm 'layer'"),
        (lambda: ResNet18(width=12, norm="group"), "num_groups 8 does not divide width 12"),
        (lambda: TorchvisionClassifier("fcn_resnet50"), "no classification network 'fcn_resnet50'"),
        (lambda: ViT(image_size=30), "not a multiple of patch_size"),
        (lambda: MLP(4, 3, class_names=["a", "b"]), "class_names has 2 names, num_classes is 3"),
    ],
)
def test_bad_arguments_are_refused(build, message):
    with pytest.raises(ConfigError, match=message):
        build()
