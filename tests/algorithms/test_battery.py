"""What every published method must stand: one battery for all of them, found by what fedlight.algorithms exports."""

import copy
import pickle
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

import fedlight.algorithms
from fedlight.core import Algorithm, Server
from fedlight.data import Digits, DirichletByClient, FederatedDataModule
from fedlight.fleet import ThreeTier
from fedlight.models import ConvNet

ROOT = Path(__file__).resolve().parents[2]
ALGORITHMS = [getattr(fedlight.algorithms, name) for name in fedlight.algorithms.__all__]

every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda algorithm: algorithm.__name__)


def data():
    return FederatedDataModule(
        Digits(), num_clients=5, partition=DirichletByClient(0.5), batch_size=16, server_fraction=0.1,
        max_train_examples=300, seed=2,
    )  # fmt: skip


def run(algorithm, folder, rounds, resume=None):
    torch.manual_seed(0)
    server = Server(ConvNet("digits", norm="batch", lr=0.1), algorithm(clients_per_round=4), ThreeTier(), seed=7)
    trainer = pl.Trainer(
        max_epochs=rounds,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)],
    )
    trainer.fit(server, datamodule=data(), ckpt_path=resume)
    return server, trainer


def saved(folder, epoch):
    return torch.load(folder / f"epoch={epoch}.ckpt", weights_only=True)


def equal(one, other):
    """Bit for bit, NaN being itself."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other or (one != one and other != other)


@every_algorithm
@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_learns_and_resumes_bit_for_bit(algorithm, tmp_path):
    server, trainer = run(algorithm, tmp_path, 8)
    assert trainer.callback_metrics["val/accuracy"] > 0.2  # twice as good as chance, after eight rounds
    assert server.clock.now_s > 0
    whole = saved(tmp_path, 7)
    run(algorithm, tmp_path / "resumed", 8, resume=tmp_path / "epoch=3.ckpt")
    again = saved(tmp_path / "resumed", 7)
    for key in ("state_dict", "optimizer_states", "fedlight"):
        assert equal(whole[key], again[key]), key


@every_algorithm
def test_copies_and_pickles(algorithm):
    one = algorithm()
    for other in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):  # noqa: S301 - our own bytes
        assert type(other) is algorithm
        assert equal({slot: part.state_dict() for slot, part in other.slots().items()},
                     {slot: part.state_dict() for slot, part in one.slots().items()})  # fmt: skip


@every_algorithm
def test_refuses_a_cohort_larger_than_the_fleet(algorithm):
    with pytest.raises(
        fedlight.errors.ConfigError, match="clients_per_round=9 is larger than the fleet of num_clients=5"
    ):
        algorithm(clients_per_round=9).schedule.check(5)


@every_algorithm
def test_is_one_short_final_class_with_a_card_and_configs(algorithm):
    name = algorithm.__name__.lower()
    assert algorithm.__module__ == f"fedlight.algorithms.{name}"
    assert algorithm.__mro__[1] is Algorithm
    assert {key for key in vars(algorithm) if callable(vars(algorithm)[key])} == {"__init__"}
    assert getattr(algorithm, "__final__", False)
    assert "Differs from" in algorithm.__doc__
    assert len((ROOT / f"fedlight/algorithms/{name}.py").read_text().splitlines()) <= 120
    card = (ROOT / f"docs/algorithms/{name}.md").read_text()
    assert "1." in card
    assert {path.name for path in ROOT.glob(f"configs/{name}_*.yaml")} >= {
        f"{name}_fashion_mnist.yaml", f"{name}_cifar10.yaml",
    }  # fmt: skip
