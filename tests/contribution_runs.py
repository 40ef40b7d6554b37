"""Short runs with every contribution, and all of them as a process.

python contribution_runs.py FILE --processes 2: writes scores and final weights by contribution.
"""

import argparse
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from toy import Classifier, ToyData, ToyFleet

from fedlight.algorithms import FedLight
from fedlight.core import Server
from fedlight.parts import (
    ClasswiseCosine,
    CompositeStatistics,
    CosineGradient,
    GramLeaveOneOut,
    GTGShapley,
    HeldOutAccuracy,
    InformationGain,
    Judge,
    LeaveOneOut,
    Reputation,
    RobustVolume,
    Scored,
    ShapleyExact,
    TruncatedMonteCarlo,
)

ACCURACY = Judge("val/accuracy")
CONTRIBUTIONS = {
    "CosineGradient": CosineGradient,
    "Reputation": lambda: Reputation(patience=2),
    "ClasswiseCosine": ClasswiseCosine,
    "GramLeaveOneOut": GramLeaveOneOut,
    "RobustVolume": lambda: RobustVolume(num_dims=2),
    "CompositeStatistics": CompositeStatistics,
    "InformationGain": InformationGain,
    "HeldOutAccuracy": HeldOutAccuracy,
    "LeaveOneOut": lambda: LeaveOneOut(ACCURACY),
    "ShapleyExact": lambda: ShapleyExact(ACCURACY),
    "TruncatedMonteCarlo": lambda: TruncatedMonteCarlo(ACCURACY),
    "GTGShapley": lambda: GTGShapley(ACCURACY),
    "Scored": lambda: Scored(ShapleyExact(ACCURACY), CosineGradient()),
}


def algorithm_of(contribution, clients_per_round=3):
    """Pruned submodels by a bandit per client, so that coverage differs."""
    algorithm = FedLight(clients_per_round=clients_per_round, ratios=[0.0, 0.5], value="local_loss", round_to=1)
    algorithm.contribution = contribution
    return algorithm


def run(algorithm, folder=None, rounds=4, resume=None, client=Classifier, processes=1):
    class Records(pl.Callback):
        def on_train_batch_end(self, trainer, server, *_):
            server.records.append(server.last_round)

    torch.manual_seed(0)
    server = Server(client(), algorithm, ToyFleet(), seed=3)
    server.records = []
    saving = [] if folder is None else [ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)]
    pl.Trainer(
        max_epochs=rounds, accelerator="cpu", devices=processes, strategy="ddp" if processes > 1 else "auto",
        use_distributed_sampler=False, logger=False, enable_checkpointing=bool(saving),
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=0,
        callbacks=[Records(), *saving],
    ).fit(server, datamodule=ToyData(), ckpt_path=resume)  # fmt: skip
    return server


def scores_of(server):
    return [{report.client: report.contribution for report in record.reports} for record in server.records]


def weights_of(server):
    return [{report.client: report.weight for report in record.reports} for record in server.records]


SHARED_OUT = ("Reputation", "RobustVolume", "CompositeStatistics", "HeldOutAccuracy", "GTGShapley", "Scored")
"""Contributions that two processes share: at least one for each way to see updates."""


def run_all(processes=1):
    """Scores of every round and final weights, by contribution."""
    told = {}
    for name in SHARED_OUT:
        server = run(algorithm_of(CONTRIBUTIONS[name]()), processes=processes)
        told[name] = {"scores": scores_of(server), "weights": server.client.state_dict()}
    return told


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    told = run_all(arguments.processes)
    if pl.utilities.rank_zero_only.rank == 0:
        torch.save(told, arguments.file)


if __name__ == "__main__":
    main()
