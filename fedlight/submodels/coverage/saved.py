"""Coverage out of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedlight.errors import CheckpointError
from fedlight.submodels.coverage.channels import ChannelCoverage
from fedlight.submodels.coverage.coverage import Coverage
from fedlight.submodels.coverage.masks import MaskCoverage
from fedlight.submodels.structure import Structure


def coverage_from_state(structure: Structure, state: Mapping[str, Any]) -> Coverage:
    """Make the coverage that :meth:`Coverage.state_dict` described.

    Raises:
        CheckpointError: a kind of coverage that isn't known.
        DataError: a keep set or a mask that doesn't fit the model.
    """
    if state.get("kind") == "channels":
        return ChannelCoverage(structure, state["keep"])
    if state.get("kind") == "masks":
        return MaskCoverage(structure, state["masks"])
    raise CheckpointError(f"coverage of kind {state.get('kind')!r}: this version knows 'channels' and 'masks'")
