"""The server's own data: judged as by a plain loop, trained on as by a client, and nothing else is touched."""

import copy

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from toy import Batches, Classifier, Regressor, ToyData, ToyFleet

from fedlight.algorithms import FedAvg
from fedlight.core import Algorithm, Server
from fedlight.core.desk import ServerDesk
from fedlight.core.slots import NoServerUpdate, ServerUpdate
from fedlight.errors import ConfigError, DataError, UnsupportedClientError
from fedlight.parts import LeanLoop, RunningStatistics, StaticStatistics


def desk_of(module, data=None, norm=None):
    return ServerDesk(module, data or ToyData(), norm or RunningStatistics(), seed=0)


def doubled(module):
    return {name: 2 * value if value.is_floating_point() else value for name, value in module.state_dict().items()}


@pytest.mark.parametrize(
    ("half", "rows"), [("all", slice(None)), ("train", slice(0, None, 2)), ("holdout", slice(1, None, 2))]
)
def test_judges_any_weights_by_validation_step(half, rows, regressor, data):
    weights, before = doubled(regressor), copy.deepcopy(regressor.state_dict())
    own, other = data.server(), copy.deepcopy(regressor)
    other.load_state_dict(weights)
    expected = nn.functional.mse_loss(other(own.x[rows]), own.y[rows]).item()
    assert desk_of(regressor, data).evaluate(weights, half) == {"val/loss": pytest.approx(expected, abs=1e-6)}
    assert all(torch.equal(value, before[name]) for name, value in regressor.state_dict().items())


def test_judging_draws_nothing_and_uses_running_statistics():
    torch.manual_seed(3)
    module, data = Classifier(), ToyData()
    desk, state, weights = desk_of(module, data), torch.get_rng_state(), module.state_dict()
    first = desk.evaluate(weights)
    assert torch.equal(torch.get_rng_state(), state)
    assert module.training
    own = data.server()
    module.eval()
    expected = (module(own.x).argmax(1) == (own.y[:, 0] > 0)).float().mean().item()
    assert first == desk.evaluate(weights) == {"val/accuracy": pytest.approx(expected)}


@torch.no_grad()
def test_static_statistics_are_estimated_before_judging():
    torch.manual_seed(3)
    module, data = Classifier(), ToyData()
    own = data.server()
    module.norm.running_mean.fill_(50.0)  # would decide alone
    other = copy.deepcopy(module).eval()
    other.norm.running_mean.copy_(module.hidden(own.x).mean(0))
    other.norm.running_var.copy_(module.hidden(own.x).var(0))
    expected = (other(own.x).argmax(1) == (own.y[:, 0] > 0)).float().mean().item()
    desk = desk_of(module, data, StaticStatistics())
    assert desk.score(module.state_dict(), "val/accuracy") == pytest.approx(expected)


def test_trains_as_a_client_would(regressor, data):
    own, other = data.server(), copy.deepcopy(regressor)
    update = desk_of(regressor, data).train(regressor.state_dict(), LeanLoop(epochs=1), round_idx=0, half="train")
    loss = nn.functional.mse_loss(other(own.x[::2]), own.y[::2])
    gradients = torch.autograd.grad(loss, list(other.parameters()))
    for (name, _), gradient in zip(other.named_parameters(), gradients, strict=True):
        torch.testing.assert_close(update.delta[name], -0.05 * gradient, rtol=0, atol=1e-7)
    assert (update.num_steps, update.num_examples) == (1, 2)


def test_an_unknown_metric_is_named(regressor):
    with pytest.raises(ConfigError, match=r"Regressor\.validation_step logs val/loss, not val/accuracy"):
        desk_of(regressor).score(regressor.state_dict(), "val/accuracy")


def test_what_cannot_be_judged_is_refused(regressor):
    class OnlyTrains(Regressor):
        validation_step = pl.LightningModule.validation_step

    module = OnlyTrains()
    with pytest.raises(UnsupportedClientError, match="OnlyTrains has no validation_step"):
        desk_of(module).evaluate(module.state_dict())


def test_data_that_cannot_be_halved_are_refused(regressor, data, monkeypatch):
    monkeypatch.delattr(Batches, "halves")
    with pytest.raises(DataError, match="Batches, which can't be halved"):
        desk_of(regressor, data).evaluate(regressor.state_dict(), "holdout")


class Halve(ServerUpdate):
    """Halves all weights after the server's step."""

    needs_server_data = True

    def apply(self, state, reports, aggregate, weights):
        self.seen = [report.client for report in reports]
        self.loss = state.desk.score(weights, "val/loss")
        assert aggregate.keys() == weights.keys()
        return {name: value / 2 for name, value in weights.items()}


def test_the_slot_comes_after_the_server_step(regressor, data, trainer):
    plain, part = Server(copy.deepcopy(regressor), FedAvg(), ToyFleet()), Halve()
    trainer(1).fit(plain, datamodule=data)
    server = Server(regressor, Algorithm(**{**FedAvg().slots(), "server_update": part}), ToyFleet())
    trainer(1).fit(server, datamodule=data)
    for name, value in server.client.state_dict().items():
        torch.testing.assert_close(value, plain.client.state_dict()[name] / 2, rtol=0, atol=0)
    assert sorted(part.seen) == [0, 1, 2, 3]
    assert part.loss == pytest.approx(desk_of(regressor, data).score(plain.client.state_dict(), "val/loss"))


def test_a_part_that_needs_server_data_is_refused_at_start_without_them(regressor, data, trainer, monkeypatch):
    monkeypatch.setattr(ToyData, "server", lambda self: None)
    server = Server(regressor, Algorithm(**{**FedAvg().slots(), "server_update": Halve()}), ToyFleet())
    with pytest.raises(ConfigError, match=r"server_update: Halve needs server data: set data.server_fraction"):
        trainer(1).fit(server, datamodule=data)
    trainer(1).fit(Server(regressor, FedAvg(), ToyFleet()), datamodule=data)
    assert isinstance(FedAvg().server_update, NoServerUpdate)
