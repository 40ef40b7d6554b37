"""A stand-in for the server that does nothing in a round but leave a record of it."""

from __future__ import annotations

from types import SimpleNamespace

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from fedlight.core.round_record import RoundRecord
from fedlight.core.types import Report, Timing, Work

SPEED_S = {0: 1.0, 1: 2.0, 2: 4.0}


def make_record(round_idx: int, *, rejected: int | None = None, arms: bool = True) -> RoundRecord:
    reports = [
        Report(
            client=client,
            round_idx=round_idx,
            ratio=0.25 * client,
            work=Work(macs=1e6, download_bytes=1000, upload_bytes=500),
            timing=Timing(0.0, seconds, 0.0),
            finish_s=round_idx * 4.0 + seconds,
            dispatched_s=round_idx * 4.0,
            num_examples=10,
            metrics={"train/loss": 1.0},
            weight=1 / 3,
            contribution=None if client == 2 else 0.5 - client,
            accepted=client != rejected,
            upload_bytes=500,
        )
        for client, seconds in SPEED_S.items()
    ]
    metrics = {"bandit/plays/0.0": 3.0, "bandit/plays/0.5": float(round_idx)} if arms else {}
    start_s = round_idx * 4.0
    return RoundRecord(round_idx, reports, {"conv1": 0.25, "fc1": 0.5}, start_s, start_s + 4.0, 0.1, metrics)


class StubFleet:
    """Three devices that are always up."""

    def device(self, client):
        return ("fast", "medium", "slow")[client]

    def candidates(self, now_s):
        return range(3)


class StubServer(pl.LightningModule):
    """One round per epoch; every round leaves the record that `make_record` gives."""

    fleet = StubFleet()
    data = SimpleNamespace(num_examples=np.full(3, 10))

    def __init__(self, rejected: int | None = None, accuracy: bool = True) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.rejected = rejected
        self.accuracy = accuracy
        self.last_round: RoundRecord | None = None

    def training_step(self, batch, batch_idx):
        self.optimizers().step()
        self.last_round = make_record(self.current_epoch, rejected=self.rejected)

    def validation_step(self, batch, batch_idx):
        if self.accuracy:
            self.log("val/accuracy", 0.1 * (self.current_epoch + 1))

    def test_step(self, batch, batch_idx):
        self.log("test/accuracy", 0.875)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)

    def train_dataloader(self):
        return DataLoader(torch.zeros(1, 1))

    val_dataloader = test_dataloader = train_dataloader


@pytest.fixture
def make_trainer(tmp_path):
    def make(callbacks, max_epochs=3, logger=False, **options):
        return pl.Trainer(
            accelerator="cpu",
            max_epochs=max_epochs,
            logger=logger,
            callbacks=callbacks,
            default_root_dir=tmp_path,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            **{"enable_checkpointing": False} | options,
        )

    return make


@pytest.fixture
def stub():
    return StubServer


@pytest.fixture
def record():
    return make_record
