"""A federation whose processes round differently: python drifting_run.py FOLDER.

What the parts work out on the server's own data differs from process to process, as on accelerators that add up in
another order. Every process writes FOLDER/<rank>.pt with what it has in the end.
"""

import sys
from pathlib import Path

import lightning.pytorch as pl
import torch
from toy import Regressor, ToyData, ToyFleet

from fedlight.algorithms import FedAvg
from fedlight.core import Algorithm, Server
from fedlight.core.processes import Processes
from fedlight.core.slots import Contribution, ServerUpdate


class Drifting(ServerUpdate):
    """Moves all weights by the rank, and leaves them as they are on every other process."""

    def __init__(self):
        self.agreed = torch.zeros(())

    def apply(self, state, reports, aggregate, weights):
        rank = Processes().rank
        self.agreed = state.desk.agreed(torch.tensor(1.0 + rank))
        return {name: value + 1.0 for name, value in weights.items()} if rank == 0 else weights


class Judged(Contribution):
    """Scores by the rank."""

    needs = "all"

    def weights(self, state, clients):
        return dict.fromkeys(clients, 1.0)

    def score_cohort(self, state, coalitions):
        return dict.fromkeys(coalitions.clients, 1.0 + Processes().rank)


def main():
    torch.set_num_threads(1)
    pl.seed_everything(1, verbose=False)
    update = Drifting()
    server = Server(
        Regressor(), Algorithm(**{**FedAvg().slots(), "server_update": update, "contribution": Judged()}), ToyFleet()
    )
    pl.Trainer(
        max_epochs=2, accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, num_sanity_val_steps=0, use_distributed_sampler=False,
    ).fit(server, datamodule=ToyData())  # fmt: skip
    told = {"weights": server.client.state_dict(), "contributions": server.contributions, "agreed": update.agreed}
    torch.save(told, Path(sys.argv[1]) / f"{Processes().rank}.pt")


if __name__ == "__main__":
    main()
