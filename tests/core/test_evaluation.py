"""Evaluation is the client's own: its hooks, signatures and logs do what they do under a stock Trainer."""

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchmetrics import MeanSquaredError
from toy import Regressor, ToyData, ToyFleet

from fedlight.algorithms import FedAvg, SpeedRatio
from fedlight.core import Algorithm, Server
from fedlight.core.evaluation import batch_call, batch_inputs, example_call, example_inputs, run_forward
from fedlight.core.slots import Ratio
from fedlight.errors import ConfigError, DataError, UnsupportedClientError
from fedlight.parts import StaticStatistics
from fedlight.submodels import SubmodelPlan

pytestmark = [
    # A stock Trainer says both of the same module.
    pytest.mark.filterwarnings("ignore:You have overridden .* in `LightningModule`"),
    pytest.mark.filterwarnings("ignore:.*Please switch to the.*DataModule"),
]


class Talkative(Regressor):
    """Overrides every hook of an evaluation, doubles inputs and targets on their way, and logs wherever it may."""

    def __init__(self):
        super().__init__()
        self.error = MeanSquaredError()
        self.calls = []

    def _told(self, name, batches=None, log=True):
        self.calls.append(name if batches is None else f"{name} {batches}")
        if log:
            self.log(f"told/{name}", float(len(self.calls)), on_epoch=True)

    def on_before_batch_transfer(self, batch, dataloader_idx):
        self.calls.append("before")
        return [2 * tensor for tensor in batch]

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        self.calls.append("transfer")
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch, dataloader_idx):
        self.calls.append("after")
        return [tensor + 1 for tensor in batch]

    def on_validation_start(self):
        self._told("start")

    def on_validation_epoch_start(self):
        self._told("epoch_start")

    def on_validation_batch_start(self, batch, batch_idx):
        self._told("batch_start", batch_idx)

    def validation_step(self, batch):
        x, y = batch
        self.error.update(self(x), y)
        self.log("val/mean", x.mean(), batch_size=len(x))
        return {"seen": len(x)}

    def on_validation_batch_end(self, outputs, batch, batch_idx):
        assert outputs == {"seen": len(batch[0])}
        self._told("batch_end", batch_idx)

    def on_validation_epoch_end(self):
        self.log("val/error", self.error)
        self.log("val/computed", self.error.compute())
        self._told("epoch_end")

    def on_validation_end(self):
        self._told("end", log=False)

    on_test_start = on_validation_start
    on_test_epoch_start = on_validation_epoch_start
    on_test_batch_start = on_validation_batch_start
    test_step = validation_step
    on_test_batch_end = on_validation_batch_end
    on_test_epoch_end = on_validation_epoch_end
    on_test_end = on_validation_end


class BothData(ToyData):
    """The validation data once more as test data."""

    def test_dataloader(self):
        return self.val_dataloader()


class TwoLoaders(ToyData):
    """Validation data of two sources."""

    def val_dataloader(self):
        return [super().val_dataloader(), DataLoader(self.clients[1].x, batch_size=8)]


def evaluated(client, trainer, stage):
    """What the stage logs for the module by itself, and for the server that has it as its client."""
    torch.manual_seed(0)
    alone, served = client(), client()
    served.load_state_dict(alone.state_dict())
    data = BothData()
    [expected] = getattr(trainer(1), stage)(alone, data, verbose=False)
    [got] = getattr(trainer(1), stage)(Server(served, FedAvg(), ToyFleet()), data, verbose=False)
    return (expected, alone.calls), (got, served.calls)


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_hooks_and_logs_are_those_of_a_stock_trainer(trainer, stage):
    expected, got = evaluated(Talkative, trainer, stage)
    assert got == expected
    logged, calls = got
    assert logged["val/error"] == pytest.approx(logged["val/computed"])
    assert calls[:3] == ["start", "epoch_start", "before"]
    assert calls[-2:] == ["epoch_end", "end"]


def test_hooks_are_called_in_the_evaluations_of_a_fit(trainer, data):
    server = Server(Talkative(), FedAvg(), ToyFleet())
    running = trainer(2)
    running.fit(server, datamodule=data)
    assert server.client.calls.count("epoch_end") == 2
    assert server.client.calls.count("before") == 2  # the server's own batch, one per round, is not the client's
    assert {"val/error", "told/epoch_end", "told/batch_end", "train/loss"} <= running.callback_metrics.keys()


def test_several_loaders_are_told_apart(trainer):
    class Numbered(Regressor):
        def validation_step(self, batch, batch_idx, dataloader_idx):
            self.log("val/source", float(dataloader_idx))

    server = Server(Numbered(), FedAvg(), ToyFleet())
    first, second = trainer(1).validate(server, TwoLoaders(), verbose=False)
    assert first == {"val/source/dataloader_idx_0": 0.0}
    assert second == {"val/source/dataloader_idx_1": 1.0}
    with pytest.raises(RuntimeError, match=r"multiple .* no `dataloader_idx`"):
        trainer(1).validate(Server(Regressor(), FedAvg(), ToyFleet()), TwoLoaders(), verbose=False)


@pytest.mark.parametrize("hook", ["on_validation_model_eval", "on_test_model_train", "on_save_checkpoint"])
def test_hooks_that_nobody_would_call_are_refused(trainer, data, hook):
    client = type("Odd", (Regressor,), {hook: lambda self, *args: None})()
    with pytest.raises(UnsupportedClientError, match=f"Odd overrides {hook}.*leave it out"):
        trainer(1).fit(Server(client, FedAvg(), ToyFleet()), datamodule=data)


class Normalised(Regressor):
    """With batch normalisation, and a training step that can't be run for the sake of its forward."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(16)

    def forward(self, x):
        return self.out(torch.relu(self.norm(self.hidden(x))))

    def training_step(self, batch, batch_idx):
        assert self.training, "a training step outside of training"
        return super().training_step(batch, batch_idx)


def test_static_statistics_need_no_training_step(trainer, data):
    server = Server(Normalised(), Algorithm(**{**FedAvg().slots(), "norm": StaticStatistics()}), ToyFleet())
    trainer(1).validate(server, datamodule=data, verbose=False)
    hidden = server.client.hidden(data.clients[0].x)
    torch.testing.assert_close(server.client.norm.running_mean, hidden.mean(0))


class OneFull(Ratio):
    """Client 0 trains the full model, the others half of it."""

    def choose(self, state, cohort):
        return {client: 0.5 if client else 0.0 for client in cohort}


def test_running_statistics_are_those_of_the_full_client(trainer, data):
    algorithm = Algorithm(**{**SpeedRatio().slots(), "ratio": OneFull()})
    server = Server(Normalised(), algorithm, ToyFleet())
    hidden = server.client.hidden(data.clients[0].x).mean(0).detach()
    trainer(1).fit(server, datamodule=data)
    # One batch: 0.9 * 0 + 0.1 * its mean under the weights that were sent.
    torch.testing.assert_close(server.client.norm.running_mean, 0.1 * hidden)


def test_inputs_that_go_by_keyword_only_have_no_position():
    class Keyword(Adder):
        def forward(self, x, *, factor):
            return super().forward(x, factor)

    assert SubmodelPlan.trace(Keyword(), example_call(Keyword())).num_units == 8
    with pytest.raises(ConfigError, match=r"Keyword.forward can't take factor by position"):
        example_inputs(Keyword())


class Adder(pl.LightningModule):
    """Two inputs by name, in another order than they are listed in the example."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.Linear(3, 8), nn.Linear(8, 1)
        self.example_input_array = {"factor": torch.ones(2, 1), "x": torch.ones(2, 3)}

    def forward(self, x, factor):
        return self.out(torch.relu(self.hidden(x))) * factor


def test_example_inputs_by_keyword_stay_by_keyword():
    client = Adder()
    assert SubmodelPlan.trace(client, example_call(client)).num_units == 8
    assert [len(value[0]) for value in example_inputs(client)] == [3, 1]
    factor, x = torch.full((4, 1), 2.0), torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    expected = client(x, factor)
    assert torch.equal(run_forward(client, {"x": x, "factor": factor, "label": 3}), expected)
    assert torch.equal(run_forward(client, (x, factor, "label")), expected)


def test_forward_reads_as_many_items_as_it_has_inputs():
    client = Regressor()
    x = torch.ones(4, 3)
    assert torch.equal(run_forward(client, (x, "label")), client(x))
    assert torch.equal(run_forward(client, x), client(x))


def test_a_dict_is_read_by_the_names_of_forwards_arguments():
    client, x = Regressor(), torch.ones(4, 3)
    batch = {"label": 3, "x": x}
    assert torch.equal(run_forward(client, batch), client(x))
    assert batch_call(client, batch) == {"x": x}
    (only,) = batch_inputs(client, batch)
    assert only is x
    # By the order of forward's arguments, whatever the order in the example or in the batch.
    factor = torch.ones(4, 1)
    first, second = batch_inputs(Adder(), {"factor": factor, "x": x})
    assert first is x
    assert second is factor


def test_a_dict_that_lacks_an_input_is_refused_by_name():
    with pytest.raises(DataError, match=r"dicts without 'factor', which Adder.example_input_array names"):
        batch_call(Adder(), {"x": torch.ones(4, 3)})
