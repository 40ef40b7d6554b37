"""One scalar per client and round, for fleets small enough to look at one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import lightning.pytorch as pl
from lightning.pytorch import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from fedlight.core.tags import HOLDERS, NEVER_TRAINED
from fedlight.tracking.record import last_round


@final
class FleetScalars(Callback):
    """Logs ``prune/ratio/<client>``, ``contribution/<client>`` and ``prune/layer_sparsity/<layer>`` every round.

    Where submodels lack units it also counts how often each unit was held by a client: ``prune/never_trained/<layer>``,
    and TensorBoard's histogram ``prune/holders/<layer>``. Units that nobody is given stay as they are, and where they
    are chosen by their size they stay small. The counts themselves are in the checkpoint.

    Args:
        max_clients: clients to log one by one: the first ones that finish a round; of the others only the means that
            the server logs are seen. 0 logs no client by itself.
    """

    def __init__(self, max_clients: int = 64) -> None:
        self.max_clients = max_clients
        self._clients: dict[int, None] = {}
        self._holders: dict[str, Tensor] = {}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the round that has just ended: before validation, after which a checkpoint may be written."""
        record = last_round(pl_module)
        if record is None:
            return
        scalars = {f"prune/layer_sparsity/{layer}": value for layer, value in record.layer_sparsity.items()}
        for report in record.reports:
            if len(self._clients) < self.max_clients:
                self._clients.setdefault(report.client)
            if report.client not in self._clients:
                continue
            scalars[f"prune/ratio/{report.client}"] = report.ratio
            if report.contribution is not None:
                scalars[f"contribution/{report.client}"] = report.contribution
        for layer, holders in record.unit_holders.items():
            self._holders[layer] = self._holders.get(layer, 0) + holders
            scalars[f"{NEVER_TRAINED}/{layer}"] = float((self._holders[layer] == 0).double().mean())
        for logger in trainer.loggers:
            logger.log_metrics(scalars, step=record.round_idx)
            if isinstance(logger, TensorBoardLogger):
                for layer in record.unit_holders:
                    logger.experiment.add_histogram(f"{HOLDERS}/{layer}", self._holders[layer], record.round_idx)

    def state_dict(self) -> dict[str, Any]:
        """Return the clients that are logged, and how often each unit was held."""
        return {"clients": list(self._clients), "holders": dict(self._holders)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on with the same clients and counts."""
        self._clients = dict.fromkeys(state_dict["clients"])
        self._holders = dict(state_dict.get("holders", {}))
