"""Data of a federated run: sources, partitions, and the LightningDataModule that joins them."""

from fedlight.data.arrays import Npz
from fedlight.data.augment import Augmentation, CropFlip
from fedlight.data.char_text import CharText
from fedlight.data.digits import Digits
from fedlight.data.dirichlet import DirichletByClass, DirichletByClient
from fedlight.data.examples import DatasetExamples, Examples, Splits, TensorExamples
from fedlight.data.map_dataset import MapDataset
from fedlight.data.module import FederatedDataModule
from fedlight.data.partition import IID, Assignment, Partition
from fedlight.data.shards import ClassesPerClient, Shards
from fedlight.data.source import Source
from fedlight.data.torchvision_images import TorchvisionImages

__all__ = [
    "IID",
    "Assignment",
    "Augmentation",
    "CharText",
    "ClassesPerClient",
    "CropFlip",
    "DatasetExamples",
    "Digits",
    "DirichletByClass",
    "DirichletByClient",
    "Examples",
    "FederatedDataModule",
    "MapDataset",
    "Npz",
    "Partition",
    "Shards",
    "Source",
    "Splits",
    "TensorExamples",
    "TorchvisionImages",
]
