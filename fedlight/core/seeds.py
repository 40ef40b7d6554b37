"""One source of randomness: every draw of a run comes from a seed derived from what it is for."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

SERVER = -1
"""The client number of draws that belong to the server."""


def derive_seed(seed: int, round_idx: int, client: int, purpose: str) -> int:
    """Return a seed in [0, 2**63) that depends on all four arguments and on nothing else.

    The number of processes, the order of clients and earlier draws don't enter, so runs are the same however they
    are shared out, comparisons between algorithms are paired, and a resumed run goes on as it would have.

    Args:
        seed: seed of the run.
        round_idx: round, counted from 0 (-1: before the first round).
        client: client, or :data:`SERVER`.
        purpose: what is drawn, for example ``"batches"``.
    """
    text = f"{seed}/{round_idx}/{client}/{purpose}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def torch_generator(seed: int, round_idx: int, client: int, purpose: str) -> torch.Generator:
    """Return a CPU generator seeded by :func:`derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(seed, round_idx, client, purpose))


def numpy_generator(seed: int, round_idx: int, client: int, purpose: str) -> np.random.Generator:
    """Return a NumPy generator seeded by :func:`derive_seed`."""
    return np.random.default_rng(derive_seed(seed, round_idx, client, purpose))
