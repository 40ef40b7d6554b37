"""What a client starts from: the slot, and what holds where nobody says otherwise."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import final

from torch import Tensor

from fedlight.core.slots import Part
from fedlight.core.types import RoundState, State


class Download(Part):
    """What does a client start from?"""

    @abstractmethod
    def weights(self, state: RoundState, client: int) -> Mapping[str, Tensor]:
        """Return the state dict, in full shape, that the client's submodel is cut out of; read only."""

    def observe(self, state: RoundState, aggregate: State, buffers: State, shares: Mapping[int, float]) -> None:
        """Learn what a round did, before the server step, when the contribution has observed it.

        Args:
            state: the round, with the weights that it started from.
            aggregate: U of the parameters.
            buffers: U of the float buffers that travel.
            shares: the clients that were merged, with their new weights (not normalised).
        """


@final
class GlobalModel(Download):
    """Every client starts from the global model, so no model but that one is held."""

    def weights(self, state: RoundState, client: int) -> Mapping[str, Tensor]:
        """Return the global state dict."""
        return state.weights
