"""A decoder-only language model."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor, nn
from torch.nn import functional

from .attention import Attention
from .classifier import Classifier
from .examples import example_tokens


@final
class SwiGLU(nn.Module):
    """Gated MLP: down(silu(gate(x)) · up(x)) (Shazeer 2020, equation 6)."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(dim, hidden_dim, bias=False)
        self.up_proj = nn.Linear(dim, hidden_dim, bias=False)
        self.down_proj = nn.Linear(hidden_dim, dim, bias=False)

    def forward(self, stream: Tensor) -> Tensor:
        """What the hidden units add to the stream [batch, positions, dim]."""
        added: Tensor = self.down_proj(functional.silu(self.gate_proj(stream)) * self.up_proj(stream))
        return added


@final
class DecoderBlock(nn.Module):
    """Pre-norm block: x + causal attention(norm(x)), then x + SwiGLU(norm(x))."""

    def __init__(self, dim: int, num_heads: int, num_kv_heads: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(dim)
        self.attention = Attention(dim, num_heads, num_kv_heads, causal=True, rotary=True, bias=False)
        self.norm2 = nn.RMSNorm(dim)
        self.mlp = SwiGLU(dim, hidden_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, stream: Tensor) -> Tensor:
        """The stream [batch, positions, dim] behind this block."""
        stream = stream + self.dropout(self.attention(self.norm1(stream)))
        behind: Tensor = stream + self.dropout(self.mlp(self.norm2(stream)))
        return behind


@final
class GPT(Classifier):
    """Decoder-only transformer: RMSNorm, rotary positions, grouped-query attention, SwiGLU, untied head.

    A batch is ``(tokens, next tokens)``, both int64 [batch, positions]; ``val/accuracy`` is the share of next tokens
    that are predicted right. The defaults suit the 65 characters of tiny Shakespeare.

    Args:
        vocab_size: number of different tokens.
        context_length: positions of the example input; rotary positions take any number.
        dim: width of the stream, a multiple of ``num_heads``.
        depth: number of blocks.
        num_heads: query heads per block.
        num_kv_heads: key and value heads per block, a divisor of ``num_heads``.
        hidden_dim: hidden units of a block's MLP.
        dropout: dropout rate behind attention and MLP.
        **training: ``lr``, ``momentum``, ``weight_decay``, ``label_smoothing``, ``class_names``,
            ``log_squared_loss`` of :class:`Classifier`.

    Raises:
        ConfigError: the numbers of heads don't divide ``dim`` or each other.
    """

    def __init__(
        self,
        vocab_size: int = 65,
        context_length: int = 64,
        dim: int = 128,
        depth: int = 4,
        num_heads: int = 8,
        num_kv_heads: int = 2,
        hidden_dim: int = 344,
        dropout: float = 0.0,
        **training: Any,
    ) -> None:
        super().__init__(vocab_size, example_tokens(vocab_size, 2, context_length), **training)
        self.embedding = nn.Embedding(vocab_size, dim)
        self.blocks = nn.Sequential(
            *(DecoderBlock(dim, num_heads, num_kv_heads, hidden_dim, dropout) for _ in range(depth))
        )
        self.norm = nn.RMSNorm(dim)
        self.head = nn.Linear(dim, vocab_size, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [batch, positions, tokens] of the token that follows each of the int64 tokens [batch, positions]."""
        logits: Tensor = self.head(self.norm(self.blocks(self.embedding(inputs))))
        return logits
