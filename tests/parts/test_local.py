"""The two local loops: equal to the bit, equal to a plain loop, and clear about what they can't honour."""

import signal
import warnings

import lightning.pytorch as pl
import pytest
import torch
from clients import Examples, Net, Scalar, classes, make_task, targets
from lightning.pytorch.utilities import rank_zero_only
from torch import nn
from torch.utils.data import DataLoader
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from fedlight.core.client import run_client
from fedlight.core.seeds import torch_generator
from fedlight.core.types import STATISTICS
from fedlight.errors import ConfigError, DataError, UnsupportedClientError
from fedlight.parts.local import LeanLoop, TrainerLoop

LOOPS = [LeanLoop, TrainerLoop]


class LineNet(pl.LightningModule):
    """A regressor trained by Adam."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def training_step(self, batch):
        loss = nn.functional.mse_loss(self.layer(batch[0])[:, 0], batch[1].float())
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return {"loss": loss, "more": 1}

    def configure_optimizers(self):
        return {"optimizer": torch.optim.Adam(self.parameters(), lr=0.1)}


def run(module, local, data=None, **changes):
    return run_client(make_task(module, local, **changes), module, data or classes())


def start_of(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# Both loops are one ---------------------------------------------------------------------------------------------------


ARGUMENTS = [
    {},
    {"epochs": 3},
    {"steps": 7},
    {"epochs": 2, "gradient_clip_norm": 0.05},
    {"epochs": 2, "optimizer": lambda parameters: torch.optim.AdamW(parameters, lr=0.01)},
    {"steps": 3, "optimizer": lambda parameters: torch.optim.LBFGS(parameters, max_iter=3)},
]
MASKED = [{"epochs": 2, "masked_logits": "zero"}, {"steps": 2, "masked_logits": "-inf"}]


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [(Net, arguments) for arguments in ARGUMENTS + MASKED] + [(LineNet, arguments) for arguments in ARGUMENTS],
)
def test_both_loops_give_the_same_weights(kind, arguments):
    module, data = kind(), classes(num_examples=10, present=[0, 2])
    mask = {name: torch.rand(p.shape) < 0.7 for name, p in module.named_parameters() if name == "head.weight"}
    changes = {"lr_factor": 0.3, "statistics": STATISTICS, "masks": mask, "weights": start_of(module)}
    lean, trained = (run(module, loop(**arguments), data, **changes) for loop in LOOPS)
    assert same(lean.delta, trained.delta)
    assert same(lean.buffers, trained.buffers)
    assert lean.num_steps == trained.num_steps
    assert lean.metrics == trained.metrics
    for statistic in STATISTICS:
        assert same(lean.statistics[statistic], trained.statistics[statistic])


class Recorder(Net):
    """Notes the order in which its hooks are called, and skips where it is told to."""

    def __init__(self, skip_at=(), none_at=()):
        super().__init__()
        self.skip_at, self.none_at, self.events = skip_at, none_at, []

    def note(self, *event):
        EVENTS.append((*event, self.current_epoch, self.global_step))

    def on_train_batch_start(self, batch, batch_idx):
        self.note("start", batch_idx)
        return -1 if (self.current_epoch, batch_idx) in self.skip_at else None

    def training_step(self, batch, batch_idx):
        self.note("step", batch_idx)
        return None if batch_idx in self.none_at else super().training_step(batch, batch_idx)

    def on_before_zero_grad(self, optimizer):
        self.note("zero", type(optimizer).__name__)

    def on_before_backward(self, loss):
        self.note("before_backward", loss.item())

    def on_after_backward(self):
        self.note("after_backward", self.head.bias.grad.sum().item())

    def on_before_optimizer_step(self, optimizer):
        self.note("before_step", optimizer.param_groups[0]["lr"])

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.note("end", batch_idx, sorted(outputs), self.head.bias.sum().item())

    def on_before_batch_transfer(self, batch, dataloader_idx):
        self.note("transfer")
        return batch


EVENTS = []


@pytest.mark.filterwarnings("ignore:.*`training_step` returned `None`")
@pytest.mark.parametrize("options", [{}, {"skip_at": [(0, 1), (2, 0)]}, {"none_at": [1]}])
@pytest.mark.parametrize("arguments", [{"epochs": 3}, {"steps": 4}])
def test_hooks_are_called_in_the_order_of_a_trainer(options, arguments):
    module, logs, updates = Recorder(**options), [], []
    weights = start_of(module)
    for loop in LOOPS:
        EVENTS.clear()
        updates.append(run(module, loop(**arguments), weights=weights))
        logs.append(list(EVENTS))
    assert logs[0] == logs[1]
    assert same(updates[0].delta, updates[1].delta)
    assert updates[0].num_steps == updates[1].num_steps


def test_skipped_batches_take_no_step():
    assert run(Recorder(none_at=[1]), LeanLoop(epochs=2)).num_steps == 4
    assert run(Recorder(skip_at=[(0, 1), (1, 0)]), LeanLoop(epochs=2)).num_steps == 1
    always = Recorder(skip_at=[(epoch, 0) for epoch in range(9)])
    assert run(always, LeanLoop(steps=5)).num_steps == 0


# Against a plain loop -------------------------------------------------------------------------------------------------


def test_statistics_and_weights_equal_those_of_a_plain_loop():
    module = Net(dropout=0.0)
    data, task = classes(), make_task(module, None)
    update = run(module, LeanLoop(epochs=2, gradient_clip_norm=0.5), data, statistics=STATISTICS)
    plain = Net(dropout=0.0)
    plain.load_state_dict(task.weights)
    optimizer = plain.configure_optimizers()
    generator = torch_generator(task.seed, task.round_idx, task.client, "batches")
    sums = {kind: {name: 0.0 for name, _ in plain.named_parameters()} for kind in ("abs_grad", "sq_grad", "taylor")}
    for x, y in [*data.epoch(generator), *data.epoch(generator)]:
        optimizer.zero_grad()
        nn.functional.cross_entropy(plain(x), y).backward()
        for name, p in plain.named_parameters():
            sums["abs_grad"][name] += p.grad.abs()
            sums["sq_grad"][name] += p.grad**2
            sums["taylor"][name] += (p.grad * p.detach()) ** 2
        nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        optimizer.step()
    for name, p in plain.named_parameters():
        change = p.detach() - task.weights[name]
        assert torch.equal(update.delta[name], change)
        assert torch.equal(update.statistics["abs_change"][name], change.abs())
        for kind, expected in sums.items():
            assert torch.allclose(update.statistics[kind][name], expected[name], rtol=1e-5)


def test_statistics_by_hand():
    module = Scalar()
    update = run(module, LeanLoop(epochs=2), targets(4.0), weights={"w": torch.tensor(1.0)}, statistics=STATISTICS)
    # g, w: (-3, 1), (-1.5, 2.5)
    found = {kind: update.statistics[kind]["w"].item() for kind in STATISTICS}
    assert found == {"abs_grad": 4.5, "sum_grad": -4.5, "sq_grad": 11.25, "taylor": 9 + 14.0625, "abs_change": 2.25}


def test_only_what_is_asked_for_is_summed():
    assert run(Net(), LeanLoop()).labels is None
    assert run(Net(), LeanLoop()).statistics == {}
    assert set(run(Net(), LeanLoop(), statistics=frozenset({"taylor"})).statistics) == {"taylor"}


def test_statistics_see_the_gradient_of_entries_that_a_mask_leaves_out():
    module = Net()
    mask = torch.zeros(3, 6, dtype=torch.bool)
    update = run(module, LeanLoop(), masks={"head.weight": mask}, statistics=STATISTICS)
    assert (update.statistics["abs_grad"]["head.weight"] > 0).any()
    assert (update.statistics["taylor"]["head.weight"] == 0).all()
    assert (update.delta["head.weight"] == 0).all()


def test_gradient_clipping_by_hand():
    module = Scalar()
    update = run(module, LeanLoop(gradient_clip_norm=1.0), targets(4.0), weights={"w": torch.tensor(1.0)})
    assert update.delta["w"].item() == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("loop", LOOPS)
def test_steps_go_over_as_many_epochs_as_they_take(loop):
    data = classes(num_examples=12, batch_size=4)
    assert run(Net(), loop(steps=7), data).num_steps == 7
    assert loop(steps=7).num_examples(data) == 28
    assert loop(epochs=5).num_examples(data) == 60


# Learning rate by round -----------------------------------------------------------------------------------------------


def halve_every_two(optimizer):
    return torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)


@pytest.mark.parametrize("loop", LOOPS)
def test_the_schedule_is_stepped_once_per_round(loop):
    local = loop(lr_scheduler=halve_every_two)
    local.check(Scalar())
    assert [local.lr_factor(round_idx) for round_idx in (5, 0, 1, 2, 4)] == [0.25, 1, 1, 0.5, 0.25]


def test_a_schedule_with_a_floor_knows_the_optimizers_learning_rate():
    def anneal(optimizer):
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4, eta_min=0.1)

    of_module, own = LeanLoop(lr_scheduler=anneal), LeanLoop(optimizer=Sgd(0.5), lr_scheduler=anneal)
    of_module.check(Scalar())
    for local in (of_module, own):
        assert local.lr_factor(4) == pytest.approx(0.1 / 0.5)
        assert local.lr_factor(2) == pytest.approx(0.3 / 0.5)


class Sgd:
    def __init__(self, lr):
        self.lr = lr

    def __call__(self, parameters):
        return torch.optim.SGD(parameters, lr=self.lr)


class Scheduled(Scalar):
    """Returns a schedule that starts with a tenth of the learning rate."""

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        return [optimizer], [torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=3)]


@pytest.mark.parametrize("loop", LOOPS)
def test_the_modules_own_schedule_counts_rounds(loop):
    module, local = Scheduled(), loop()
    local.check(module)
    assert [local.lr_factor(round_idx) for round_idx in range(5)] == pytest.approx([0.1, 0.4, 0.7, 1, 1])
    for round_idx, step in ((0, 0.05), (1, 0.2), (4, 0.5)):
        factor = local.lr_factor(round_idx)
        update = run(module, local, targets(1.0), lr_factor=factor, weights={"w": torch.tensor(0.0)})
        assert update.delta["w"].item() == pytest.approx(step)


def test_no_schedule_is_a_factor_of_one():
    local = LeanLoop()
    assert local.lr_factor(100) == 1
    local.check(Net())
    assert local.lr_factor(100) == 1


def returning(configured):
    class Configured(Scalar):
        def configure_optimizers(self):
            return configured(super().configure_optimizers())

    return Configured()


def plateau(optimizer):
    return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)}


def by_step(optimizer):
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": halve_every_two(optimizer), "interval": "step"}}


@pytest.mark.parametrize(
    ("configured", "message"),
    [
        (plateau, "ReduceLROnPlateau, which can't count rounds"),
        (by_step, "doesn't step once per epoch"),
        (lambda optimizer: ([optimizer], [halve_every_two(optimizer)] * 2), "returned 2 schedulers"),
        (lambda optimizer: [optimizer, torch.optim.SGD([nn.Parameter(torch.zeros(1))])], "returned 2 optimizers"),
        (lambda optimizer: None, "returned no optimizer"),
        (lambda optimizer: "sgd", "returned no optimizer"),
    ],
)
def test_optimizers_that_a_round_cannot_use_are_refused(configured, message):
    for loop in LOOPS:
        with pytest.raises(UnsupportedClientError, match=message):
            loop().check(returning(configured))


def test_two_schedules_are_one_too_many():
    with pytest.raises(UnsupportedClientError, match="keep one of them"):
        LeanLoop(lr_scheduler=halve_every_two).check(Scheduled())
    LeanLoop(optimizer=Sgd(0.1), lr_scheduler=halve_every_two).check(Scheduled())


def test_groups_on_different_schedules_are_refused():
    def apart(optimizer):
        return torch.optim.lr_scheduler.LambdaLR(optimizer, [lambda epoch: 1.0, lambda epoch: 0.5])

    class Two(Scalar):
        def configure_optimizers(self):
            groups = [{"params": [self.w]}, {"params": [nn.Parameter(torch.zeros(1))]}]
            return torch.optim.SGD(groups, lr=0.1)

    with pytest.raises(UnsupportedClientError, match="different factors"):
        LeanLoop(lr_scheduler=apart).check(Two())


# What a module logs ---------------------------------------------------------------------------------------------------


class Logging(Scalar):
    """Logs by every road there is."""

    def __init__(self):
        super().__init__(lr=0.0)
        self.accuracy = MulticlassAccuracy(3, average="micro", validate_args=False)
        self.scores = MetricCollection(
            [MulticlassAccuracy(3, average="micro"), MulticlassF1Score(3, average="micro")], prefix="all/"
        )

    def training_step(self, batch, batch_idx):
        _, y = batch
        right = torch.where(y > 0, y, (y + 1) % 3)  # classes 1 and 2 are hit, class 0 never
        self.log("mean", y.float().mean())
        self.log("step", y.float().mean(), on_step=True, on_epoch=False)
        self.log("sum", float(len(y)), reduce_fx="sum")
        self.log("max", y.max().float(), reduce_fx=torch.max)
        self.log("forced", float(batch_idx), batch_size=1)
        self.log("quiet", 1.0, logger=False)
        self.accuracy(right, y)
        self.log("accuracy", self.accuracy)
        self.scores.update(right, y)
        self.log_dict(self.scores, on_step=False, on_epoch=True)
        return super().training_step(batch, batch_idx)


@pytest.mark.filterwarnings("ignore:You called `self.log.'quiet'")
@pytest.mark.parametrize("loop", LOOPS)
def test_what_is_logged_is_averaged_over_examples(loop):
    y = torch.tensor([0, 1, 1, 2, 2, 2, 2])
    update = run(Logging(), loop(epochs=2), Examples(torch.zeros(7, 1), y, batch_size=3))
    expected = {
        "mean": 10 / 7, "step": 10 / 7, "sum": 14, "max": 2, "forced": 1, "accuracy": 6 / 7,
        "all/MulticlassAccuracy": 6 / 7, "all/MulticlassF1Score": 6 / 7, "train/loss": 0.5 * 18 / 7,
    }  # fmt: skip
    assert update.metrics == pytest.approx(expected)


@pytest.mark.parametrize("loop", LOOPS)
def test_the_loss_is_reported_unless_the_module_does(loop):
    class Speaking(Scalar):
        def training_step(self, batch, batch_idx):
            self.log("train/loss", 3.0)
            return super().training_step(batch, batch_idx)

    data = targets(1.0, 1.0, 1.0, 3.0, batch_size=3)  # in batches of 3 and 1, each counts by its examples
    assert run(Scalar(lr=0.0), loop(epochs=2), data).metrics == {"train/loss": pytest.approx((3 * 0.5 + 4.5) / 4)}
    assert run(Speaking(lr=0.0), loop(), data).metrics == {"train/loss": 3.0}


def test_the_loss_of_summed_gradients_and_of_manual_steps():
    class Stepping(Manual):
        def training_step(self, batch, batch_idx):
            super().training_step(batch, batch_idx)
            return 0.5 * (self.w.detach() - batch[1]).square().mean()

    data = targets(1.0, 1.0, 1.0, 1.0, batch_size=2)
    summing = TrainerLoop(trainer_kwargs={"accumulate_grad_batches": 2})
    assert run(Scalar(lr=0.0), summing, data).metrics == {"train/loss": 0.5}
    assert run(Stepping(lr=0.0), TrainerLoop(), data).metrics == {"train/loss": 0.5}
    assert run(Manual(lr=0.0), TrainerLoop(), data).metrics == {}  # it returns nothing


def test_a_batch_of_unknown_size_counts_once():
    class Hidden:
        def __init__(self, y):
            self.y = y

    class Wrapped(Scalar):
        def training_step(self, batch, batch_idx):
            return super().training_step((None, batch.y), batch_idx)

    class Batches(Examples):
        def epoch(self, generator):
            for _, y in super().epoch(generator):
                yield Hidden(y)

    y = torch.tensor([1.0, 1.0, 1.0])
    assert run(Wrapped(lr=0.0), LeanLoop(), Batches(y[:, None], y, 2)).metrics == {"train/loss": 0.5}


def test_what_cannot_be_logged_is_said():
    class Wrong(Scalar):
        def training_step(self, batch, batch_idx):
            self.log("both", torch.zeros(2))

    with pytest.raises(UnsupportedClientError, match=r"self\.log\('both'\) got a tensor of shape \(2,\)"):
        run(Wrong(), LeanLoop(), targets(1.0))


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hook",
    [
        "optimizer_step", "optimizer_zero_grad", "backward", "configure_gradient_clipping", "lr_scheduler_step",
        "on_fit_start", "on_fit_end", "on_train_start", "on_train_end", "on_train_epoch_start", "on_train_epoch_end",
        "train_dataloader", "configure_callbacks", "configure_model", "setup", "teardown",
    ],
)  # fmt: skip
def test_hooks_of_a_trainer_are_refused_by_name(hook):
    module = type("Hooked", (Net,), {hook: lambda self, *arguments, **named: None})()
    with pytest.raises(UnsupportedClientError, match=rf"Hooked overrides {hook}, .*TrainerLoop"):
        LeanLoop().check(module)
    TrainerLoop().check(module)


class Manual(Scalar):
    def __init__(self, **options):
        super().__init__(**options)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        optimizer.step()


def test_manual_optimisation_needs_a_trainer():
    module = Manual()
    with pytest.raises(UnsupportedClientError, match=r"Manual optimises manually.*TrainerLoop"):
        LeanLoop().check(module)
    local = TrainerLoop(epochs=2)
    local.check(module)
    update = run(module, local, targets(4.0), weights={"w": torch.tensor(1.0)}, statistics=STATISTICS)
    assert update.delta["w"].item() == 2.25
    assert update.num_steps == 2
    assert update.statistics["abs_grad"]["w"].item() == 4.5
    with pytest.raises(UnsupportedClientError, match="lr_scheduler of TrainerLoop has no effect"):
        TrainerLoop(lr_scheduler=halve_every_two).check(module)


def test_modules_that_nothing_can_train_are_refused():
    class Untrained(pl.LightningModule):
        pass

    class Iterating(Scalar):
        def training_step(self, dataloader_iter):
            return None

    class Synced(Net):
        def __init__(self):
            super().__init__()
            self.body[1] = nn.SyncBatchNorm(6)

    for loop in LOOPS:
        for module, message in (
            (Untrained(), "Untrained has no training_step"),
            (Iterating(), "takes dataloader_iter"),
            (Synced(), r"body\.1 of Synced is SyncBatchNorm"),
        ):
            with pytest.raises(UnsupportedClientError, match=message):
                loop().check(module)


def test_the_trainer_of_a_lean_loop_says_what_it_has_not():
    class Asking(Scalar):
        def training_step(self, batch, batch_idx):
            assert self.trainer.is_global_zero
            assert self.logger is None
            assert self.global_rank == 0
            self.trainer.datamodule.classes()

    with pytest.raises(UnsupportedClientError, match=r"Asking uses self\.trainer\.datamodule, but LeanLoop has no Tr"):
        run(Asking(), LeanLoop(), targets(1.0))

    class Counting(Scalar):
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1 / self.trainer.estimated_stepping_batches)

    with pytest.raises(UnsupportedClientError, match=r"self\.trainer\.estimated_stepping_batches"):
        LeanLoop().check(Counting())


def test_a_step_without_a_loss_is_refused():
    class Lossless(Scalar):
        def training_step(self, batch, batch_idx):
            return {"accuracy": 1.0}

    with pytest.raises(UnsupportedClientError, match="returned dict without a loss"):
        run(Lossless(), LeanLoop(), targets(1.0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "epochs of the local loop is 0"),
        ({"steps": -1}, "steps of the local loop is -1"),
        ({"epochs": None}, "needs epochs or steps"),
        ({"gradient_clip_norm": 0.0}, "gradient_clip_norm is 0"),
        ({"masked_logits": "one"}, "masked_logits is 'one'"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    for loop in LOOPS:
        with pytest.raises(ConfigError, match=message):
            loop(**arguments)


def test_trainer_arguments_that_the_loop_sets_are_refused():
    with pytest.raises(ConfigError, match="holds max_epochs"):
        TrainerLoop(trainer_kwargs={"max_epochs": 3})


# What only a Trainer does ---------------------------------------------------------------------------------------------


def test_callbacks_and_hooks_of_a_trainer():
    class Counter(pl.Callback):
        def __init__(self):
            self.calls = 0

        def on_train_batch_end(self, trainer, pl_module, *rest):
            self.calls += 1
            pl_module.log("calls", float(self.calls), reduce_fx="max")

    class Hooked(Net):
        def on_train_start(self):
            self.epochs = 0

        def on_train_epoch_end(self):
            self.epochs += 1
            self.log("epochs", float(self.epochs), reduce_fx="max")

    counter = Counter()
    local = TrainerLoop(epochs=2, trainer_kwargs={"callbacks": [counter]})
    module = Hooked()
    for _ in range(2):
        metrics = run(module, local).metrics
        assert (metrics["calls"], metrics["epochs"]) == (6, 2)
    assert counter.calls == 0


def test_a_trainer_per_client_is_silent_and_writes_nothing(tmp_path, monkeypatch, capfd, caplog):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(Net(), TrainerLoop())
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


# Masked logits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fill", "value"), [("zero", 0.0), ("-inf", -torch.inf)])
def test_masked_logits_train_the_masked_cross_entropy(fill, value):
    module = Net(momentum=0.0, weight_decay=0.0, dropout=0.0)
    data = classes(num_examples=4, present=[0, 2])
    task = make_task(module, LeanLoop(masked_logits=fill))
    update = run_client(task, module, data)
    delta = update.delta
    assert update.labels.tolist() == [True, False, True]
    assert "forward" not in module.__dict__
    module.load_state_dict(task.weights)
    logits = module(data.x).clone()
    logits[:, 1] = value
    nn.functional.cross_entropy(logits, data.y).backward()
    assert torch.allclose(delta["head.weight"], -0.1 * module.head.weight.grad, atol=1e-6)
    assert (delta["head.weight"][1] == 0).all()
    assert (delta["head.weight"][[0, 2]] != 0).all()


def test_weight_decay_changes_the_rows_of_absent_classes_all_the_same():
    module = Net(momentum=0.0, weight_decay=0.5, dropout=0.0)
    data = classes(num_examples=4, present=[0, 2])
    before = module.head.weight[1].detach().clone()
    delta = run(module, LeanLoop(masked_logits="zero"), data).delta
    assert torch.allclose(delta["head.weight"][1], -0.1 * 0.5 * before)


@pytest.mark.parametrize("loop", LOOPS)
def test_masked_logits_refuse_what_they_cannot_mask(loop):
    class Bypassing(Net):
        def training_step(self, batch, batch_idx):
            return nn.functional.cross_entropy(self.head(self.body(batch[0])), batch[1])

    local = loop(masked_logits="zero")
    with pytest.raises(UnsupportedClientError, match=r"Bypassing\.training_step to get its logits from self"):
        run(Bypassing(), local, classes(present=[0, 2]))
    with pytest.raises(UnsupportedClientError, match=r"returned shape \(4, 3\)"):
        run(Net(), local, classes(num_classes=5, present=[0, 2]))
    with pytest.raises(DataError, match="client 3 have none"):
        run(Net(), local, targets(1.0))


# Beside other processes -----------------------------------------------------------------------------------------------


@pytest.fixture
def process_group(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("loop", LOOPS)
def test_training_never_talks_to_other_processes(loop, process_group, monkeypatch):
    def forbidden(*arguments, **named):
        raise AssertionError("a collective call in a client's training")

    for name in ("all_reduce", "all_gather", "barrier", "broadcast", "all_gather_object", "broadcast_object_list"):
        monkeypatch.setattr(torch.distributed, name, forbidden)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "outer")
    monkeypatch.setenv("GROUP_RANK", "0")
    rank = rank_zero_only.rank
    module = Logging()
    for part in module.modules():
        if isinstance(part, MulticlassAccuracy):
            part.dist_sync_on_step = True
    y = torch.tensor([0, 1, 1, 2])
    metrics = run(module, loop(), Examples(torch.zeros(4, 1), y, batch_size=2)).metrics
    assert metrics["accuracy"] == pytest.approx(3 / 4)
    assert torch.distributed.is_initialized()
    assert rank_zero_only.rank == rank


def test_a_trainer_inside_a_trainers_round():
    outer_step = []

    class Outer(Scalar):
        def training_step(self, batch, batch_idx):
            outer_step.append(run(Net(), TrainerLoop()).num_steps)
            assert torch.is_grad_enabled()
            self.log("outer", 1.0)
            return super().training_step(batch, batch_idx)

    handlers = [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)]
    outer = pl.Trainer(
        accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    module = Outer(lr=0.5)
    outer.fit(module, DataLoader([(torch.zeros(1), torch.tensor([4.0]))], batch_size=None))
    assert outer_step == [3, 3]
    assert module.w.item() == 3.0
    assert outer.callback_metrics["outer"] == 1
    assert [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)] == handlers
