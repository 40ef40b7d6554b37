"""A client's inputs in few dimensions, as its own device sees them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedlight.core.evaluation import batch_call
from fedlight.core.seeds import SERVER, torch_generator
from fedlight.core.types import ClientData
from fedlight.errors import UnsupportedClientError


def projected_inputs(module: nn.Module, data: ClientData, seed: int, num_dims: int) -> Tensor:
    """Return float64[n, num_dims]: the client's inputs, flattened, times a random matrix that all clients share.

    x ↦ P x / √|x| with P Gaussian, drawn from the run's seed. Which input: the first one of the module's forward.

    Raises:
        UnsupportedClientError: that input isn't of floats, so it has no volume, mean or variance.
    """
    matrix: Tensor | None = None
    rows = []
    for batch in data.in_order():
        call = batch_call(module, batch)  # type: ignore[arg-type]
        first = next(iter(call.values())) if isinstance(call, dict) else call[0]
        if not isinstance(first, Tensor) or not first.is_floating_point():
            raise UnsupportedClientError(
                f"{type(module).__name__} is fed {getattr(first, 'dtype', type(first).__name__)}, which has no "
                "features to measure: use a contribution on updates, such as GramLeaveOneOut"
            )
        flat = first.detach().cpu().flatten(1).double()
        if matrix is None:
            generator = torch_generator(seed, -1, SERVER, "projection")
            matrix = torch.randn(flat.shape[1], num_dims, generator=generator, dtype=torch.float64)
            matrix /= flat.shape[1] ** 0.5
        rows.append(flat @ matrix)
    return torch.cat(rows)
