"""Which row of a file belongs to which client."""

from __future__ import annotations

import numpy as np

from fedlight.core.seeds import SERVER, numpy_generator
from fedlight.fleet.draws import Ints


def assigned(num_rows: int, num_clients: int, seed: int, purpose: str, shuffle: bool) -> Ints:
    """Return int64[num_clients], every client's row: all rows come once before any comes again.

    Args:
        num_rows: number of rows, > 0.
        num_clients: number of clients.
        seed: the run's seed.
        purpose: what is assigned, so that two files are shuffled apart.
        shuffle: draw the order; else it is the file's.
    """
    rng = numpy_generator(seed, -1, SERVER, f"fleet/{purpose}")
    rounds = -(-num_clients // num_rows)
    order = [rng.permutation(num_rows) if shuffle else np.arange(num_rows) for _ in range(rounds)]
    rows: Ints = np.concatenate(order)[:num_clients].astype(np.int64)
    return rows
