"""Data of a federated run: sources, partitions, corruptions, and the LightningDataModule that joins them."""

from fedlight.data.amounts import Amounts, LogNormalAmounts, PowerLawAmounts, QuantitySkew
from fedlight.data.arrays import Npz
from fedlight.data.augment import Augmentation, CropFlip
from fedlight.data.char_text import CharText
from fedlight.data.corruption import Corruption, FeatureNoise, InputCorruption, LabelCorruption, LabelNoise
from fedlight.data.digits import Digits
from fedlight.data.dirichlet import DirichletByClass, DirichletByClient
from fedlight.data.duplicates import DuplicatedClients
from fedlight.data.examples import DatasetExamples, Examples, Splits, TensorExamples
from fedlight.data.flower import FlowerPartition
from fedlight.data.map_dataset import MapDataset
from fedlight.data.module import FederatedDataModule
from fedlight.data.natural import ByColumn
from fedlight.data.partition import IID, Assignment, Partition
from fedlight.data.shards import ClassesPerClient, Shards
from fedlight.data.shift import Blur, Colour, Rotation
from fedlight.data.source import Source
from fedlight.data.speeches import Speeches
from fedlight.data.statistics import PartitionStatistics
from fedlight.data.torchvision_images import TorchvisionImages

__all__ = [
    "IID",
    "Amounts",
    "Assignment",
    "Augmentation",
    "Blur",
    "ByColumn",
    "CharText",
    "ClassesPerClient",
    "Colour",
    "Corruption",
    "CropFlip",
    "DatasetExamples",
    "Digits",
    "DirichletByClass",
    "DirichletByClient",
    "DuplicatedClients",
    "Examples",
    "FeatureNoise",
    "FederatedDataModule",
    "FlowerPartition",
    "InputCorruption",
    "LabelCorruption",
    "LabelNoise",
    "LogNormalAmounts",
    "MapDataset",
    "Npz",
    "Partition",
    "PartitionStatistics",
    "PowerLawAmounts",
    "QuantitySkew",
    "Rotation",
    "Shards",
    "Source",
    "Speeches",
    "Splits",
    "TensorExamples",
    "TorchvisionImages",
]
