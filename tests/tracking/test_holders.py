"""How often each unit is held by a client, and what uniform pruning does to the others."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from toy import Regressor, ToyData, ToyFleet

from fedlight.algorithms import UPFL, FedAvg
from fedlight.core import Server
from fedlight.tracking import FleetScalars


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Run an algorithm and return the scalars of the last round, the histograms, and the callback."""

    def run(algorithm, rounds):
        scalars, histograms = {}, []
        logger = TensorBoardLogger(tmp_path)
        monkeypatch.setattr(logger, "log_metrics", lambda metrics, step=None: scalars.update(metrics))
        monkeypatch.setattr(
            logger.experiment, "add_histogram", lambda tag, values, step: histograms.append((tag, values.clone(), step))
        )
        torch.manual_seed(0)
        callback = FleetScalars()
        pl.Trainer(
            max_epochs=rounds, accelerator="cpu", logger=logger, callbacks=[callback], enable_progress_bar=False,
            enable_model_summary=False, enable_checkpointing=False, num_sanity_val_steps=0, limit_val_batches=0,
            use_distributed_sampler=False, log_every_n_steps=1,
        ).fit(Server(Regressor(hidden=8), algorithm, ToyFleet()), datamodule=ToyData())  # fmt: skip
        return scalars, histograms, callback

    return run


def test_uniform_pruning_trains_the_same_units_over_and_over(told):
    """Four clients, three rounds, half of eight units: twelve times held, or never."""
    scalars, histograms, callback = told(UPFL(ratio=0.5), 3)
    (layer,) = [tag.rpartition("/")[2] for tag in scalars if tag.startswith("prune/never_trained/")]
    assert scalars[f"prune/never_trained/{layer}"] == 0.5
    assert [(tag, step) for tag, _, step in histograms] == [(f"prune/holders/{layer}", step) for step in range(3)]
    assert sorted(histograms[-1][1].tolist()) == [0] * 4 + [12] * 4
    again = FleetScalars()
    again.load_state_dict(callback.state_dict())
    assert torch.equal(again.state_dict()["holders"][layer], histograms[-1][1])


def test_where_nothing_is_removed_nothing_is_counted(told):
    scalars, histograms, callback = told(FedAvg(), 2)
    assert not [tag for tag in scalars if "never_trained" in tag]
    assert histograms == []
    assert callback.state_dict()["holders"] == {}
