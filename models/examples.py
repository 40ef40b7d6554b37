"""Example inputs: fixed random numbers, since constant ones would hide what a network computes."""

from __future__ import annotations

import torch
from torch import Tensor


def example_floats(*shape: int) -> Tensor:
    """Standard normal numbers, the same in every call; the global random state stays as it is."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def example_tokens(vocab_size: int, *shape: int) -> Tensor:
    """int64 tokens in [0, vocab_size), the same in every call; the global random state stays as it is."""
    return torch.randint(vocab_size, shape, generator=torch.Generator().manual_seed(0))
