"""Plain LightningModules, shipped as fedlight.models; nothing here knows of federation."""

from .attention import Attention, rotate
from .classifier import Classifier
from .convnet import ConvNet
from .gpt import GPT
from .mlp import MLP, MLPRegressor
from .mobilenet import MobileNetV2
from .resnet import ResNet18
from .text import LSTM, TextCNN
from .torchvision_classifier import TorchvisionClassifier
from .vgg import VGG11
from .vit import ViT

__all__ = [
    "GPT",
    "LSTM",
    "MLP",
    "VGG11",
    "Attention",
    "Classifier",
    "ConvNet",
    "MLPRegressor",
    "MobileNetV2",
    "ResNet18",
    "TextCNN",
    "TorchvisionClassifier",
    "ViT",
    "rotate",
]
