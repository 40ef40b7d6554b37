"""scikit-learn's digits, which come with the package."""

from __future__ import annotations

from typing import final

import numpy as np
import torch

from fedlight.data.examples import Splits, TensorExamples
from fedlight.data.source import Source

MEAN, STD = [0.3054], [0.3761]
"""Of the training images, pixels in [0, 1]."""


@final
class Digits(Source):
    """1,797 handwritten digits of 1 x 8 x 8 pixels, 10 classes; no download.

    Pixels are scaled to [0, 1], less their mean and divided by their standard deviation over the training images.
    The test split is drawn once and for all, stratified by class, so that runs of any seed are tested on the same
    360 images (1,437 are left for training). Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten
    Digits", UCI Machine Learning Repository, 1998, as shipped by ``sklearn.datasets.load_digits``.
    """

    def load(self) -> Splits:
        """Return both splits as float32 images."""
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        digits = load_digits()
        images = torch.from_numpy(digits.images.astype(np.float32) / 16).unsqueeze(1)
        targets = torch.from_numpy(digits.target.astype(np.int64))
        train, test = train_test_split(np.arange(len(targets)), test_size=0.2, random_state=0, stratify=digits.target)
        return Splits(
            train=TensorExamples(images[train], targets[train], MEAN, STD),
            test=TensorExamples(images[test], targets[test], MEAN, STD),
            class_names=[str(name) for name in digits.target_names],
        )
