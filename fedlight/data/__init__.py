"""Data of a federated run: sources, partitions, and the LightningDataModule that joins them."""

from fedlight.data.augment import Augmentation, CropFlip
from fedlight.data.digits import Digits
from fedlight.data.dirichlet import DirichletByClass, DirichletByClient
from fedlight.data.examples import DatasetExamples, Examples, Splits, TensorExamples
from fedlight.data.module import FederatedDataModule
from fedlight.data.partition import IID, Assignment, Partition
from fedlight.data.source import Source

__all__ = [
    "IID",
    "Assignment",
    "Augmentation",
    "CropFlip",
    "DatasetExamples",
    "Digits",
    "DirichletByClass",
    "DirichletByClient",
    "Examples",
    "FederatedDataModule",
    "Partition",
    "Source",
    "Splits",
    "TensorExamples",
]
