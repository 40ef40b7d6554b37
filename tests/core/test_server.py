"""The server against a plain loop, and what it promises about rounds, checkpoints and bad updates."""

import copy
import weakref
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from toy import SIZES, Regressor, ToyData, ToyFleet

from fedlight.algorithms import FedAvg
from fedlight.core import Algorithm, Server
from fedlight.core.schedule import Schedule
from fedlight.errors import CheckpointError, ConfigError, UnsupportedClientError
from fedlight.parts import ClientStatistic, Fixed, LeanLoop, Magnitude, RandomChoice, Weights


def state_of(server):
    return {name: value.clone() for name, value in server.client.state_dict().items()}


def plain_fedavg(module, data, rounds, lr=0.05, momentum=0.0):
    """FedAvg written from McMahan et al. 2017, algorithm 1, with one full batch per client and round."""
    module = copy.deepcopy(module)
    velocity = {name: torch.zeros_like(value) for name, value in module.state_dict().items()}
    for _ in range(rounds):
        start = {name: value.clone() for name, value in module.state_dict().items()}
        mean = {name: torch.zeros_like(value) for name, value in start.items()}
        for client in data.clients:
            local = copy.deepcopy(module)
            loss = nn.functional.mse_loss(local(client.x), client.y)
            gradients = torch.autograd.grad(loss, list(local.parameters()))
            for (name, value), gradient in zip(local.named_parameters(), gradients, strict=True):
                mean[name] += client.num_examples / sum(SIZES) * (value.detach() - lr * gradient - start[name])
        for name in velocity:
            velocity[name] = momentum * velocity[name] + mean[name]
        module.load_state_dict({name: start[name] + velocity[name] for name in start})
    return module.state_dict()


def test_fedavg_equals_the_plain_loop(regressor, data, trainer):
    expected = plain_fedavg(regressor, data, 3)
    server = Server(regressor, FedAvg(), ToyFleet())
    trainer(3).fit(server, datamodule=data)
    for name, value in state_of(server).items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-6)


def test_server_momentum_is_fedavgm(regressor, data, trainer):
    expected = plain_fedavg(regressor, data, 4, momentum=0.9)
    server = Server(
        regressor, FedAvg(), ToyFleet(), server_optimizer=lambda params: torch.optim.SGD(params, lr=1.0, momentum=0.9)
    )
    trainer(4).fit(server, datamodule=data)
    for name, value in state_of(server).items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-6)


def test_server_learning_rate_follows_its_schedule_by_round(regressor, data, trainer):
    server = Server(
        regressor,
        FedAvg(),
        ToyFleet(),
        server_lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.0),
    )
    one_round = plain_fedavg(regressor, data, 1)
    trainer(3).fit(server, datamodule=data)  # after the first round the rate is 0
    for name, value in state_of(server).items():
        torch.testing.assert_close(value, one_round[name], rtol=0, atol=1e-6)


def test_a_schedule_that_waits_for_a_metric_is_refused(regressor, data, trainer):
    server = Server(regressor, FedAvg(), ToyFleet(), server_lr_scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau)
    with pytest.raises(ConfigError, match=r"server_lr_scheduler is ReduceLROnPlateau.*schedule by round"):
        trainer(1).fit(server, datamodule=data)


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true", "bf16-true"])
def test_other_precisions_than_that_of_the_clients_are_refused(regressor, data, trainer, precision):
    with pytest.raises(ConfigError, match=f"trainer.precision is {precision}"):
        trainer(1, precision=precision).fit(Server(regressor, FedAvg(), ToyFleet()), datamodule=data)


def test_rounds_are_counted_and_time_is_that_of_the_slowest(regressor, data, trainer):
    server = Server(regressor, FedAvg(), ToyFleet())
    running = trainer(5)
    running.fit(server, datamodule=data)
    assert (server.round_idx, running.global_step) == (5, 5)
    assert server.clock.now_s == pytest.approx(5 * 3.0)
    assert server.last_round.waiting_share == pytest.approx((0 + 0 + 2 / 3 + 2 / 3) / 4)
    assert running.callback_metrics["time/simulated_s"] == pytest.approx(15.0)
    assert "val/loss" in running.callback_metrics
    assert "train/loss" in running.callback_metrics


def test_the_sparsity_of_weight_masks_is_that_of_the_weights(regressor, data, trainer):
    parts = {**FedAvg().slots(), "ratio": Fixed(0.25), "extraction": Weights(), "importance": Magnitude()}
    server = Server(regressor, Algorithm(**parts), ToyFleet())
    trainer(1).fit(server, datamodule=data)
    # 12 of 48 and 4 of 16 weights.
    assert server.last_round.layer_sparsity == {"hidden": 0.25, "out": 0.25}


def test_frozen_parameters_stay(regressor, data, trainer):
    regressor.hidden.weight.requires_grad_(False)
    before = regressor.hidden.weight.detach().clone()
    server = Server(regressor, FedAvg(), ToyFleet())
    trainer(2).fit(server, datamodule=data)
    assert torch.equal(server.client.hidden.weight, before)
    assert not torch.equal(server.client.hidden.bias, torch.zeros_like(server.client.hidden.bias))


def test_a_nan_update_is_left_out_counted_and_named(regressor, data, trainer, capsys):
    reference = copy.deepcopy(data)
    data.clients[1].y = torch.full_like(data.clients[1].y, float("nan"))
    server = Server(regressor, FedAvg(), ToyFleet())
    del reference.clients[1]
    share = sum(client.num_examples for client in reference.clients) / sum(SIZES)
    start = state_of(server)
    expected = plain_fedavg(regressor, reference, 1)
    running = trainer(1)
    running.fit(server, datamodule=data)
    for name, value in state_of(server).items():
        # The plain loop divides by all examples, the server by those that it merged.
        torch.testing.assert_close(value, start[name] + (expected[name] - start[name]) / share, rtol=0, atol=1e-6)
    assert running.callback_metrics["train/rejected_clients"] == 1
    assert "1 (slow)" in capsys.readouterr().out


def test_a_round_without_any_finite_update_changes_nothing(regressor, data, trainer):
    for client in data.clients:
        client.y = torch.full_like(client.y, float("inf"))
    server = Server(regressor, FedAvg(), ToyFleet())
    before = state_of(server)
    running = trainer(2)
    running.fit(server, datamodule=data)
    assert all(torch.equal(value, before[name]) for name, value in state_of(server).items())
    assert running.global_step == 2


class Diverging(Regressor):
    """Overflows in one statistic, or logs one NaN, of the client with twelve examples; trains well all the same."""

    def __init__(self, what):
        super().__init__()
        self.what = what

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        twelve = len(batch[0]) == 12
        self.log("train/odd", float("nan") if twelve and self.what == "metric" else 1.0)
        return loss * (1e25 if twelve and self.what == "statistic" else 1.0)


def test_a_statistic_that_overflows_leaves_its_client_out(data, trainer):
    torch.manual_seed(0)
    parts = {**FedAvg().slots(), "importance": ClientStatistic("sq_grad")}
    # Gradients of 1e25 are finite, and so is a step without a rate, but not their squares.
    parts["local"] = LeanLoop(optimizer=lambda params: torch.optim.SGD(params, lr=0.0))
    server = Server(Diverging("statistic"), Algorithm(**parts), ToyFleet())
    trainer(1).fit(server, datamodule=data)
    assert [report.client for report in server.last_round.reports if not report.accepted] == [2]


def test_a_metric_that_is_not_finite_is_left_out_alone(data, trainer):
    server = Server(Diverging("metric"), FedAvg(), ToyFleet())
    running = trainer(1)
    running.fit(server, datamodule=data)
    assert running.callback_metrics["train/odd"] == 1.0
    reports = {report.client: report for report in server.last_round.reports}
    assert all(report.accepted for report in reports.values())
    assert reports[2].metrics.keys() == {"train/loss"}
    assert reports[0].metrics.keys() == {"train/loss", "train/odd"}


def test_updates_are_dropped_as_they_are_merged(regressor, data, trainer, monkeypatch):
    import fedlight.core.cohort as cohort

    alive = []

    def counting(task, module, client_data):
        update = original(task, module, client_data)
        seen.append(weakref.ref(update))
        alive.append(sum(reference() is not None for reference in seen))
        return update

    seen, original = [], cohort.run_client
    monkeypatch.setattr(cohort, "run_client", counting)
    trainer(2).fit(Server(regressor, FedAvg(), ToyFleet()), datamodule=data)
    assert len(alive) == 8
    assert max(alive) <= 2  # the new one, and the one before until its name is taken


class EverySecond(Schedule):
    """Move after every second return, with three clients at work.

    Not by the name of a part: configs could no longer name that one alone.
    """

    def check(self, num_clients):
        pass

    def advance(self, clock, dispatch):
        finished = []
        while len(finished) < 2:
            dispatch(3 - len(clock))
            finished.append(clock.next_return())
        return finished


def buffered():
    parts = FedAvg().slots()
    return Algorithm(**{**parts, "schedule": EverySecond(), "ratio": Fixed(0.5)})


def checkpointed(trainer, folder, rounds, data, resume=None):
    torch.manual_seed(0)
    server = Server(Regressor(), buffered(), ToyFleet(), seed=3)
    keep = ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)
    trainer(rounds, enable_checkpointing=True, callbacks=[keep]).fit(server, datamodule=data, ckpt_path=resume)
    return server


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_jobs_in_flight_survive_a_restart_bit_for_bit(data, trainer, tmp_path):
    whole = checkpointed(trainer, tmp_path / "whole", 6, data)
    assert len(whole.clock) > 0
    checkpointed(trainer, tmp_path / "part", 3, data)
    again = checkpointed(trainer, tmp_path / "part", 6, data, resume=tmp_path / "part" / "epoch=2.ckpt")
    assert again.clock.now_s == whole.clock.now_s
    assert again.round_idx == whole.round_idx == 6
    assert [job.key for job in again.clock.jobs()] == [job.key for job in whole.clock.jobs()]
    for name, value in state_of(again).items():
        assert torch.equal(value, state_of(whole)[name]), name


def test_checkpoints_load_as_weights_only(data, trainer, tmp_path):
    checkpointed(trainer, tmp_path, 2, data)
    saved = torch.load(tmp_path / "epoch=1.ckpt", weights_only=True)
    assert saved["fedlight"]["round_idx"] == 2
    assert len(saved["fedlight"]["clock"]["jobs"]) > 0
    assert "client.hidden.weight" in saved["state_dict"]


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_a_checkpoint_of_another_algorithm_or_architecture_is_refused(data, trainer, tmp_path):
    checkpointed(trainer, tmp_path, 1, data)
    path = tmp_path / "epoch=0.ckpt"
    with pytest.raises(CheckpointError, match=r"algorithm .*Algorithm.* has .*FedAvg"):
        trainer(2).fit(Server(Regressor(), FedAvg(), ToyFleet(), seed=3), datamodule=data, ckpt_path=path)
    with pytest.raises(CheckpointError, match="seed 3, this one has 4"):
        trainer(2).fit(Server(Regressor(), buffered(), ToyFleet(), seed=4), datamodule=data, ckpt_path=path)
    with pytest.raises(CheckpointError, match=r"hidden.weight is \(16, 3\) there and \(8, 3\) here"):
        trainer(2).fit(Server(Regressor(hidden=8), buffered(), ToyFleet(), seed=3), datamodule=data, ckpt_path=path)


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_a_checkpoint_of_other_parts_another_fleet_or_partition_is_refused(data, trainer, tmp_path):
    checkpointed(trainer, tmp_path, 1, data)
    path = tmp_path / "epoch=0.ckpt"

    def resume(parts=None, fleet=None, data=data):
        algorithm = Algorithm(**{**buffered().slots(), **(parts or {})})
        server = Server(Regressor(), algorithm, fleet or ToyFleet(), seed=3)
        trainer(2).fit(server, datamodule=data, ckpt_path=path)

    with pytest.raises(
        CheckpointError, match=r"algorithm.ratio fedlight.*\.Fixed, this one has .*\.RandomChoice; resume"
    ):
        resume({"ratio": RandomChoice([0.5])})
    with pytest.raises(CheckpointError, match=r"fleet toy.ToyFleet, this one has .*OtherFleet"):
        resume(fleet=type("OtherFleet", (ToyFleet,), {})())
    other = ToyData()
    other.clients = other.clients[:2] + other.clients[:1]
    with pytest.raises(CheckpointError, match=r"data 4 clients with 30 .* has 3 clients with 16 .*config.yaml"):
        resume(data=other)
    swapped = ToyData()
    swapped.clients.reverse()
    with pytest.raises(CheckpointError, match=r"data 4 clients with 30 .* has 4 clients with 30"):
        resume(data=swapped)
    saved = torch.load(path, weights_only=True)
    del saved["fedlight"]["slots"]["extraction"]["ratios"]
    torch.save(saved, path)
    with pytest.raises(CheckpointError, match=r"^extraction: Channels can't take back .*KeyError.*config.yaml beside"):
        resume()


@pytest.fixture
def weights(tmp_path):
    """A module, and the file of its state dict."""
    torch.manual_seed(1)
    module = Regressor()
    torch.save(module.state_dict(), tmp_path / "plain.pt")
    return module, str(tmp_path / "plain.pt")


def test_a_run_may_start_from_weights(data, trainer, tmp_path, weights):
    module, path = weights
    expected = plain_fedavg(module, data, 1)
    started = Server(Regressor(), FedAvg(), ToyFleet(), init_weights=path)
    trainer(1).fit(started, datamodule=data)
    for name, value in state_of(started).items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-6)
    after = state_of(started)
    trainer(0).fit(started, datamodule=data)  # not once more
    assert torch.equal(started.client.out.bias, after["out.bias"])


def test_a_run_may_start_from_the_weights_of_a_checkpoint(data, trainer, tmp_path):
    checkpointed(trainer, tmp_path, 1, data)
    path = str(tmp_path / "epoch=0.ckpt")
    saved = torch.load(path, weights_only=True)["state_dict"]
    started = Server(Regressor(), FedAvg(), ToyFleet(), init_weights=path)
    trainer(1).validate(started, datamodule=data, verbose=False)
    assert torch.equal(started.client.out.bias, saved["client.out.bias"])


def test_weights_that_were_loaded_take_the_place_of_those_to_start_from(data, trainer, weights):
    server = Server(Regressor(), FedAvg(), ToyFleet(), init_weights=weights[1])
    other = Server(Regressor(), FedAvg(), ToyFleet())
    server.load_state_dict(other.state_dict())
    trainer(1).validate(server, datamodule=data, verbose=False)
    assert torch.equal(server.client.out.bias, other.client.out.bias)


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_a_run_resumes_without_the_weights_that_it_started_from(data, trainer, tmp_path, weights):
    def run(rounds, folder, resume=None):
        server = Server(Regressor(), FedAvg(), ToyFleet(), init_weights=weights[1])
        keep = ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)
        trainer(rounds, enable_checkpointing=True, callbacks=[keep]).fit(server, datamodule=data, ckpt_path=resume)
        return state_of(server)

    whole = run(3, tmp_path / "whole")
    Path(weights[1]).unlink()
    resumed = run(3, tmp_path / "whole", resume=tmp_path / "whole" / "epoch=0.ckpt")
    assert all(torch.equal(value, whole[name]) for name, value in resumed.items())


def test_weights_that_do_not_fit_are_refused_before_the_first_round(data, trainer, tmp_path, weights):
    def fit(path, hidden=16):
        server = Server(Regressor(hidden=hidden), FedAvg(), ToyFleet(), init_weights=str(path))
        try:
            trainer(1).fit(server, datamodule=data)
        finally:
            assert server.last_round is None

    with pytest.raises(CheckpointError, match=r"hidden.weight is \(16, 3\) there and \(8, 3\) here"):
        fit(weights[1], hidden=8)
    with pytest.raises(CheckpointError, match="there is no file"):
        fit(tmp_path / "nothing.pt")
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(CheckpointError, match="is no checkpoint of tensors"):
        fit(tmp_path / "text.pt")


def test_a_model_without_example_input_is_refused(regressor, data, trainer):
    regressor.example_input_array = None
    with pytest.raises(ConfigError, match=r"Regressor has no example input.*example_input_array"):
        trainer(1).fit(Server(regressor, FedAvg(), ToyFleet()), datamodule=data)


def test_data_without_clients_are_refused(regressor, data, trainer):
    with pytest.raises(ConfigError, match="holds no clients"):
        trainer(1).fit(Server(regressor, FedAvg(), ToyFleet()), train_dataloaders=[0], val_dataloaders=[0])


class Skipping(Regressor):
    """Trains nothing once it is told to."""

    skips = False

    def training_step(self, batch, batch_idx):
        return None if self.skips else super().training_step(batch, batch_idx)


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_a_module_that_has_trained_may_skip_after_a_restart(data, trainer, tmp_path):
    def fit(module, rounds, resume=None):
        keep = ModelCheckpoint(tmp_path, filename="last", enable_version_counter=False)
        server = Server(module, FedAvg(), ToyFleet())
        trainer(rounds, enable_checkpointing=True, callbacks=[keep]).fit(server, datamodule=data, ckpt_path=resume)
        return state_of(server)

    trained, module = fit(Skipping(), 1), Skipping()
    module.skips = True
    assert all(torch.equal(value, trained[name]) for name, value in fit(module, 2, tmp_path / "last.ckpt").items())
    with pytest.raises(UnsupportedClientError, match="nothing was trained"):
        fit(module, 1)
