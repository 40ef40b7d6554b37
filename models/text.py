"""Networks for sequences of tokens: a convolutional classifier and an LSTM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from .classifier import Classifier
from .examples import example_tokens


@final
class TextCNN(Classifier):
    """Convolutions of several widths, each reduced to its maximum over the text (Kim 2014).

    Args:
        vocab_size: number of different tokens.
        num_classes: number of classes.
        sequence_length: tokens of the example input; the network takes any number from the largest width upwards.
        embedding_dim: width of the embedding.
        channels: channels of each convolution.
        widths: tokens that each convolution sees.
        dropout: dropout rate before the last layer.
        **training: ``lr``, ``momentum``, ``weight_decay``, ``label_smoothing``, ``class_names``,
            ``log_squared_loss`` of :class:`Classifier`.
    """

    def __init__(
        self,
        vocab_size: int,
        num_classes: int,
        sequence_length: int = 64,
        embedding_dim: int = 128,
        channels: int = 100,
        widths: Sequence[int] = (3, 4, 5),
        dropout: float = 0.5,
        **training: Any,
    ) -> None:
        super().__init__(num_classes, example_tokens(vocab_size, 2, sequence_length), **training)
        self.embedding = nn.Embedding(vocab_size, embedding_dim)
        self.convs = nn.ModuleList(nn.Conv1d(embedding_dim, channels, width) for width in widths)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels * len(widths), num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [batch, classes] of int64 tokens [batch, positions]."""
        embedded = self.embedding(inputs).transpose(1, 2)
        features = torch.cat([conv(embedded).relu().amax(-1) for conv in self.convs], 1)
        logits: Tensor = self.head(self.dropout(features))
        return logits


@final
class LSTM(Classifier):
    """Embedding, LSTM and one linear layer, on the last step or on every step.

    The defaults are the next-character network that LEAF's benchmark measures on (Shakespeare,
    Caldas et al. 2018): from 80 characters the next. With ``every_step`` the targets are [batch, positions].

    Args:
        vocab_size: number of different tokens.
        num_classes: number of classes; None: the next token, ``vocab_size``.
        sequence_length: tokens of the example input; the network takes any number.
        embedding_dim: width of the embedding.
        hidden_size: hidden units of each LSTM layer.
        num_layers: number of LSTM layers.
        every_step: predict at every position instead of the last only.
        **training: ``lr``, ``momentum``, ``weight_decay``, ``label_smoothing``, ``class_names``,
            ``log_squared_loss`` of :class:`Classifier`.
    """

    def __init__(
        self,
        vocab_size: int = 80,
        num_classes: int | None = None,
        sequence_length: int = 80,
        embedding_dim: int = 8,
        hidden_size: int = 256,
        num_layers: int = 2,
        every_step: bool = False,
        **training: Any,
    ) -> None:
        num_outputs = vocab_size if num_classes is None else num_classes
        super().__init__(num_outputs, example_tokens(vocab_size, 2, sequence_length), **training)
        self.every_step = every_step
        self.embedding = nn.Embedding(vocab_size, embedding_dim)
        self.lstm = nn.LSTM(embedding_dim, hidden_size, num_layers, batch_first=True)
        self.head = nn.Linear(hidden_size, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [batch, classes], or [batch, positions, classes], of int64 tokens [batch, positions]."""
        states, _ = self.lstm(self.embedding(inputs))
        logits: Tensor = self.head(states if self.every_step else states[:, -1])
        return logits
