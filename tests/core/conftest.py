"""Fixtures of the toy federation."""

import lightning.pytorch as pl
import pytest
import torch
from toy import Regressor, ToyData


@pytest.fixture
def data():
    return ToyData()


@pytest.fixture
def regressor():
    torch.manual_seed(0)
    return Regressor()


@pytest.fixture
def trainer(tmp_path):
    """Make a Trainer that runs so many rounds."""

    def make(rounds, **arguments):
        defaults = {
            "default_root_dir": tmp_path,
            "accelerator": "cpu",
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
            "num_sanity_val_steps": 0,
            "use_distributed_sampler": False,
        }
        return pl.Trainer(max_epochs=rounds, **{**defaults, **arguments})

    return make
