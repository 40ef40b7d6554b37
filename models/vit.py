"""A vision transformer for small images."""

from __future__ import annotations

from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from fedlight.errors import ConfigError

from .attention import Attention
from .classifier import Classifier
from .examples import example_floats


@final
class EncoderBlock(nn.Module):
    """Pre-norm block: x + attention(norm(x)), then x + MLP(norm(x))."""

    def __init__(self, dim: int, num_heads: int, hidden_dim: int, fused: bool, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, num_heads, fused=fused)
        self.norm2 = nn.LayerNorm(dim)
        self.up_proj = nn.Linear(dim, hidden_dim)
        self.gelu = nn.GELU()
        self.down_proj = nn.Linear(hidden_dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, stream: Tensor) -> Tensor:
        """The stream [batch, positions, dim] behind this block."""
        stream = stream + self.dropout(self.attention(self.norm1(stream)))
        hidden = self.gelu(self.up_proj(self.norm2(stream)))
        behind: Tensor = stream + self.dropout(self.down_proj(hidden))
        return behind


@final
class ViT(Classifier):
    """Vision transformer of Dosovitskiy et al. 2021 with learnt positions, sized for 28x28 and 32x32 images.

    Args:
        num_classes: number of classes.
        image_size: height and width of the images, a multiple of ``patch_size``.
        patch_size: height and width of a patch.
        in_channels: channels of the images.
        dim: width of the stream, a multiple of ``num_heads``.
        depth: number of blocks.
        num_heads: attention heads per block.
        mlp_ratio: hidden units of a block's MLP per dim of the stream.
        pooling: what the head reads: ``cls``, a token of its own, or ``mean``, the mean of all patches.
        fused: one layer for queries, keys and values instead of three.
        dropout: dropout rate behind attention and MLP.
        **training: ``lr``, ``momentum``, ``weight_decay``, ``label_smoothing``, ``class_names``,
            ``log_squared_loss`` of :class:`Classifier`.

    Raises:
        ConfigError: the patches don't tile the image, or the heads the stream.
    """

    def __init__(
        self,
        num_classes: int = 10,
        image_size: int = 32,
        patch_size: int = 4,
        in_channels: int = 3,
        dim: int = 128,
        depth: int = 6,
        num_heads: int = 4,
        mlp_ratio: float = 2.0,
        pooling: Literal["cls", "mean"] = "cls",
        fused: bool = False,
        dropout: float = 0.0,
        **training: Any,
    ) -> None:
        if image_size % patch_size:
            raise ConfigError(f"image_size {image_size} is not a multiple of patch_size {patch_size}: change one")
        super().__init__(num_classes, example_floats(2, in_channels, image_size, image_size), **training)
        num_positions = (image_size // patch_size) ** 2 + (pooling == "cls")
        self.patches = nn.Conv2d(in_channels, dim, patch_size, patch_size)
        self.cls = nn.Parameter(torch.randn(1, 1, dim) * 0.02) if pooling == "cls" else None
        # About as large as the patches: the usual 0.02 costs plain SGD several epochs until it finds the positions.
        self.positions = nn.Parameter(torch.randn(1, num_positions, dim) * 0.5)
        hidden_dim = round(dim * mlp_ratio)
        self.blocks = nn.Sequential(*(EncoderBlock(dim, num_heads, hidden_dim, fused, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [batch, classes] of float images [batch, channels, height, width]."""
        stream = self.patches(inputs).flatten(2).transpose(1, 2)
        if self.cls is not None:
            stream = torch.cat((self.cls.expand(stream.shape[0], -1, -1), stream), 1)
        stream = self.norm(self.blocks(stream + self.positions))
        logits: Tensor = self.head(stream.mean(1) if self.cls is None else stream[:, 0])
        return logits
