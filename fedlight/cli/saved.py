"""A run as its checkpoint knows it: the server with its weights and the memory of its parts."""

from __future__ import annotations

from typing import final

import numpy as np
import torch

from fedlight.cli.run import FedlightCLI
from fedlight.cli.state import unpriced_state
from fedlight.core import Server
from fedlight.core.checkpoint_file import read_checkpoint_file
from fedlight.core.types import RoundState
from fedlight.data import FederatedDataModule
from fedlight.errors import CheckpointError, DataError

FITTING_SLOTS = ("extraction", "importance")
"""Slots whose memory says which units a submodel has."""


@final
class SavedRun:
    """What a checkpoint and the configuration that it carries say; needs no data.

    Args:
        path: checkpoint file.

    Raises:
        CheckpointError: it is missing, unreadable, no checkpoint of fedlight, or doesn't fit its own configuration.
    """

    def __init__(self, path: str) -> None:
        checkpoint = read_checkpoint_file(path, "--ckpt_path")
        saved = checkpoint["fedlight"]
        if saved["config"] is None:
            raise CheckpointError(
                f"{path} carries no configuration, since it wasn't made by fedlight fit; set server.run_config to the "
                "run's YAML before training"
            )
        cli = FedlightCLI(run=False, config_text=saved["config"])
        self.server: Server = cli.model
        self.data: FederatedDataModule = cli.datamodule
        self.round_idx: int = saved["round_idx"]
        self.server.setup("validate")
        if saved["plan"] != self.server.plan.fingerprint:
            raise CheckpointError(
                f"{path} is of another architecture than {type(self.server.client).__name__} is now; use the code that "
                "the run was made with"
            )
        self.server.load_state_dict(checkpoint["state_dict"])
        slots = self.server.algorithm.slots()
        for slot in FITTING_SLOTS:
            slots[slot].load_state_dict(saved["slots"][slot])
        self.pruned = bool(saved["slots"]["extraction"].get("ratios", torch.zeros(0)).gt(0).any())

    def state(self) -> RoundState:
        """Return the state of the round that would come next, as parts see it; prices and sample counts are unknown."""
        return unpriced_state(self.server, np.ones(self.data.num_clients, dtype=np.int64), self.round_idx)

    def setup_data(self) -> FederatedDataModule | None:
        """Return the data, ready to be read, or None where they are not at hand."""
        try:
            self.data.prepare_data()
            self.data.setup()
        except (DataError, OSError):
            return None
        return self.data
