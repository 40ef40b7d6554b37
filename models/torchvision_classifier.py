"""Any of torchvision's classification networks."""

from __future__ import annotations

from typing import Any, final

import torchvision
from torch import Tensor

from fedlight.errors import ConfigError

from .classifier import Classifier
from .examples import example_floats


@final
class TorchvisionClassifier(Classifier):
    """A classification network of torchvision by its name there, untrained.

    Args:
        name: such as ``resnet50`` or ``efficientnet_b0``; ``torchvision.models.list_models`` lists them.
        num_classes: number of classes.
        image_size: height and width of the example input.
        **training: ``lr``, ``momentum``, ``weight_decay``, ``label_smoothing``, ``class_names``,
            ``log_squared_loss`` of :class:`Classifier`.

    Raises:
        ConfigError: torchvision has no classification network of this name.
    """

    def __init__(self, name: str, num_classes: int = 10, image_size: int = 224, **training: Any) -> None:
        super().__init__(num_classes, example_floats(2, 3, image_size, image_size), **training)
        if name not in torchvision.models.list_models(torchvision.models):
            raise ConfigError(
                f"torchvision has no classification network {name!r}: see torchvision.models.list_models()"
            )
        # The two networks with side exits answer with a tuple unless told not to.
        exits = {"aux_logits": False} if name in {"googlenet", "inception_v3"} else {}
        if exits:
            exits["init_weights"] = True
        self.network = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **exits)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [batch, classes] of float images [batch, 3, height, width]."""
        logits: Tensor = self.network(inputs)
        return logits
