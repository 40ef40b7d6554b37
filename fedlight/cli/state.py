"""What parts are told outside of a run."""

from __future__ import annotations

import numpy as np

from fedlight.core import Server
from fedlight.core.types import RoundState, Work


def unpriced_state(server: Server, num_examples: np.ndarray, round_idx: int = 0) -> RoundState:
    """Return the state of a round that isn't going to be run: time stands at 0, and no submodel has a price.

    Args:
        server: set up, so that its plan is known.
        num_examples: int64[num_clients].
        round_idx: round, counted from 0.
    """
    return RoundState(
        round_idx=round_idx,
        seed=server.seed,
        now_s=0.0,
        plan=server.plan,
        weights=server.client.state_dict(),
        num_examples=num_examples,
        price=lambda client, ratio, share=1.0, level=1.0: Work(0.0, 0, 0),
    )
