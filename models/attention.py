"""Self-attention whose heads can be removed one by one."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlight.errors import ConfigError


def rotate(states: Tensor, base: float = 10000.0) -> Tensor:
    r"""Rotary positions: turn the pair (i, i + d/2) of the state at position t by the angle t · base^(-2i/d).

    The product of two rotated states depends on their positions by the difference alone (Su et al. 2021, equation 16;
    pairs are halves, as in most published weights, instead of neighbours).

    Args:
        states: [..., positions, d] with an even d; positions count from 0.
        base: wave length of the slowest pair, in units of 2π positions.
    """
    num_positions, dim = states.shape[-2:]
    half = dim // 2
    # Made anew each time: a table kept as a buffer would be one more tensor to size, copy and send.
    exponents = torch.arange(half, device=states.device, dtype=torch.float32) / -half
    angles = torch.arange(num_positions, device=states.device, dtype=torch.float32)[:, None] * base**exponents
    cos, sin = angles.cos(), angles.sin()
    cos, sin = torch.cat((cos, cos), -1).to(states.dtype), torch.cat((-sin, sin), -1).to(states.dtype)
    return states * cos + states.roll(half, -1) * sin


@final
class Attention(nn.Module):
    """Multi-head, grouped-query or multi-query self-attention over [batch, positions, dim].

    Head h reads the key and value head h // (num_heads / num_kv_heads). The input of ``out_proj`` is the heads
    concatenated in this order, so the query heads of one key-value head lie together. The forward reads ``num_heads``,
    ``num_kv_heads`` and ``head_dim`` each time and never the width of the stream: a copy with fewer heads (the same
    number per key-value head) or a narrower stream works once its layers and these numbers are set.

    Args:
        dim: width of the stream.
        num_heads: number of query heads.
        num_kv_heads: number of key and value heads, a divisor of ``num_heads``; None: as many.
        head_dim: width of one head; None: ``dim / num_heads``.
        fused: one layer ``qkv`` with the rows q | k | v instead of ``q_proj``, ``k_proj`` and ``v_proj``.
        causal: no position sees a later one.
        rotary: rotate queries and keys by position (see :func:`rotate`); needs an even ``head_dim``.
        bias: the layers have biases.

    Raises:
        ConfigError: the numbers of heads or their width don't divide.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        fused: bool = False,
        causal: bool = False,
        rotary: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        self.head_dim = dim // num_heads if head_dim is None else head_dim
        self.fused = fused
        self.causal = causal
        self.rotary = rotary
        if head_dim is None and dim % num_heads:
            raise ConfigError(f"dim {dim} is not a multiple of num_heads {num_heads}: change one or give head_dim")
        if num_heads % self.num_kv_heads:
            raise ConfigError(f"num_heads {num_heads} is not a multiple of num_kv_heads {num_kv_heads}: change one")
        if rotary and self.head_dim % 2:
            raise ConfigError(f"rotary positions need an even head_dim, not {self.head_dim}: change it")
        query_width, key_width = num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        if fused:
            self.qkv = nn.Linear(dim, query_width + 2 * key_width, bias=bias)
        else:
            self.q_proj = nn.Linear(dim, query_width, bias=bias)
            self.k_proj = nn.Linear(dim, key_width, bias=bias)
            self.v_proj = nn.Linear(dim, key_width, bias=bias)
        self.out_proj = nn.Linear(query_width, dim, bias=bias)

    def forward(self, stream: Tensor) -> Tensor:
        """What every position reads from the others, [batch, positions, dim]."""
        queries, keys, values = (self._split_heads(states) for states in self._project(stream))
        if self.rotary:
            queries, keys = rotate(queries), rotate(keys)
        queries_per_key = self.num_heads // self.num_kv_heads
        if queries_per_key > 1:
            keys = keys.repeat_interleave(queries_per_key, 1)
            values = values.repeat_interleave(queries_per_key, 1)
        heads = functional.scaled_dot_product_attention(queries, keys, values, is_causal=self.causal)
        read: Tensor = self.out_proj(heads.transpose(1, 2).flatten(2))
        return read

    def _project(self, stream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if not self.fused:
            return self.q_proj(stream), self.k_proj(stream), self.v_proj(stream)
        key_width = self.num_kv_heads * self.head_dim
        queries, keys, values = self.qkv(stream).split((self.num_heads * self.head_dim, key_width, key_width), -1)
        return queries, keys, values

    def _split_heads(self, states: Tensor) -> Tensor:
        return states.reshape(*states.shape[:2], -1, self.head_dim).transpose(1, 2)
