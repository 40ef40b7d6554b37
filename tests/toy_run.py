"""The toy federation as a process: python toy_run.py FOLDER ROUNDS [--resume] [--processes N] ...

Writes FOLDER/last.ckpt after every round, FOLDER/rounds.jsonl with what each round decided.
``--buffered`` has a server that waits for nobody, so that jobs are in flight whenever it is killed.
``--deep`` trains a classifier with batch normalisation and dropout, with units chosen by what clients sum up.
"""

import argparse
import json
import time
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from toy import Classifier, Regressor, ToyData, ToyFleet

from fedlight.algorithms import FedLight
from fedlight.core import Server
from fedlight.parts import Buffered

HANGING = "hanging"
"""File that tells that a run waits to be killed."""


class Diary(Callback):
    """Write down what every round decided; in round ``hang_in``, after its training, wait to be killed."""

    def __init__(self, path, hang_in):
        self.path, self.hang_in = path, hang_in

    def on_train_batch_end(self, trainer, server, outputs, batch, batch_idx):
        if server.last_round.round_idx == self.hang_in:
            (self.path.parent / HANGING).touch()
            time.sleep(600)

    def on_train_epoch_end(self, trainer, server):
        if trainer.is_global_zero:
            record = server.last_round
            told = {
                "round": record.round_idx,
                "end_s": record.end_s,
                "ratios": {report.client: report.ratio for report in record.reports},
                "contributions": {report.client: report.contribution for report in record.reports},
            }
            with self.path.open("a") as file:
                file.write(json.dumps(told) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("rounds", type=int)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--deep", action="store_true")
    parser.add_argument("--buffered", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    train(**vars(arguments))


def train(folder, rounds, resume=False, processes=1, hang_in=-1, deep=False, buffered=False):
    """Run the federation in this process."""
    folder.mkdir(parents=True, exist_ok=True)
    pl.seed_everything(1, verbose=False)
    client, algorithm = (Classifier(), FedLight(criterion="taylor", round_to=1)) if deep else (Regressor(), FedLight())
    if buffered:
        algorithm.schedule = Buffered(2)
    server = Server(client, algorithm, ToyFleet(), server_optimizer=lambda p: torch.optim.Adam(p, lr=0.01), seed=1)
    last = folder / "last.ckpt"
    pl.Trainer(
        max_epochs=rounds,
        accelerator="cpu",
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        callbacks=[
            Diary(folder / "rounds.jsonl", hang_in),
            ModelCheckpoint(folder, filename="last", enable_version_counter=False),
        ],
    ).fit(server, datamodule=ToyData(), ckpt_path=last if resume else None)


if __name__ == "__main__":
    main()
