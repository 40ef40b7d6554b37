"""run_client: exact updates, purity, and nothing left behind in the module."""

import random

import numpy as np
import pytest
import torch
from clients import Net, Scalar, classes, make_task, targets
from torch import nn
from torchmetrics.classification import MulticlassAccuracy

from fedlight.core.client import run_client
from fedlight.errors import CheckpointError, DataError
from fedlight.parts.local import LeanLoop, TrainerLoop
from fedlight.parts.norm import BatchStatistics, StaticStatistics

LOOPS = [LeanLoop, TrainerLoop]


def seed_all():
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)


def draw():
    return [torch.rand(1).item(), np.random.rand(), random.random()]  # noqa: S311


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("loop", LOOPS)
def test_update_is_local_minus_global(loop):
    module = Scalar()
    task = make_task(module, loop(epochs=2), weights={"w": torch.tensor(1.0)})
    update = run_client(task, module, targets(3.0, 5.0))
    # w: 1 -> 1 - .5 (1 - 4) = 2.5 -> 2.5 - .5 (2.5 - 4) = 3.25
    assert update.delta["w"].item() == 2.25
    assert (update.client, update.num_examples, update.num_steps, update.upload_bytes) == (3, 2, 2, 4)


def test_momentum_and_weight_decay_by_hand():
    module = Scalar(momentum=0.5, weight_decay=0.25)
    task = make_task(module, LeanLoop(epochs=2), weights={"w": torch.tensor(1.0)})
    # g = (w - 4) + .25 w: 1: -2.75, v = -2.75, w = 2.375; 2: -1.625 + .59375 = -1.03125, v = -2.40625, w = 3.578125
    assert run_client(task, module, targets(3.0, 5.0)).delta["w"].item() == 2.578125


def test_optimizer_starts_afresh_for_every_client():
    module = Scalar(momentum=0.5)
    task = make_task(module, LeanLoop(), weights={"w": torch.tensor(1.0)})
    deltas = [run_client(task, module, targets(4.0)).delta["w"].item() for _ in range(3)]
    assert deltas == [1.5, 1.5, 1.5]


def test_learning_rate_factor_of_the_round():
    module = Scalar()
    task = make_task(module, LeanLoop(), weights={"w": torch.tensor(1.0)}, lr_factor=0.5)
    assert run_client(task, module, targets(4.0)).delta["w"].item() == 0.75


def test_frozen_parameters_have_no_update_and_integer_buffers_never_travel():
    module = Net()
    module.head.weight.requires_grad = False
    task = make_task(module, LeanLoop())
    update = run_client(task, module, classes())
    assert "head.weight" not in update.delta
    assert "head.bias" in update.delta
    assert set(update.buffers) == {"body.1.running_mean", "body.1.running_var"}
    assert torch.equal(module.head.weight, task.weights["head.weight"])
    trained = 24 + 6 + 6 + 6 + 3
    assert update.upload_bytes == 4 * (trained + 12)


@pytest.mark.parametrize("norm", [StaticStatistics(), BatchStatistics()])
def test_buffers_stay_where_the_policy_does_not_let_them_travel(norm):
    module = Net()
    task = make_task(module, LeanLoop(), norm=norm)
    assert run_client(task, module, classes()).buffers == {}
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(getattr(module.body[1], name), task.weights[f"body.1.{name}"])
    assert module.body[1].track_running_stats


def test_running_statistics_travel_as_a_difference():
    module = Net()
    update = run_client(make_task(module, LeanLoop(), weights=with_mean(module, 5.0)), module, classes())
    assert torch.allclose(update.buffers["body.1.running_mean"] + 5, module.body[1].running_mean)
    assert module.body[1].num_batches_tracked == 3


def with_mean(module, value):
    weights = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    weights["body.1.running_mean"].fill_(value)
    return weights


@pytest.mark.parametrize("loop", LOOPS)
def test_a_task_determines_its_update_whatever_was_before(loop):
    module, data = Net(), classes()
    task = make_task(module, loop(epochs=2))
    first = run_client(task, module, data)
    torch.manual_seed(99)
    run_client(make_task(Net(), loop(), client=8, seed=1), module, classes(seed=4))
    again = run_client(task, module, data)
    assert same(first.delta, again.delta)
    assert same(first.buffers, again.buffers)
    assert first.metrics == again.metrics
    other = run_client(make_task(module, loop(epochs=2), client=4, weights=task.weights), module, data)
    assert not same(first.delta, other.delta)


@pytest.mark.parametrize("loop", LOOPS)
def test_global_generators_are_left_alone(loop):
    class Drawing(Net):
        def on_train_batch_start(self, batch, batch_idx):
            self.drawn = draw()

        def training_step(self, batch, batch_idx):
            self.log_dict({str(index): value for index, value in enumerate(self.drawn)})
            return super().training_step(batch, batch_idx)

    module = Drawing()
    task = make_task(module, loop())
    seed_all()
    expected = draw()
    seed_all()
    update = run_client(task, module, classes())
    assert draw() == expected
    assert run_client(task, module, classes()).metrics == update.metrics


def test_global_generators_are_left_alone_by_a_failure():
    class Failing(Net):
        def training_step(self, batch, batch_idx):
            torch.rand(1)
            raise ValueError("of the module's own")

    module = Failing()
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    with pytest.raises(ValueError, match="of the module's own"):
        run_client(make_task(module, LeanLoop()), module, classes())
    assert torch.equal(torch.rand(1), expected)
    assert "log" not in module.__dict__


class Messy(Net):
    """Leaves something behind in every way that a module can."""

    def __init__(self):
        super().__init__()
        self.accuracy, self.seen, self.count = MulticlassAccuracy(3, validate_args=False), [], 0
        self.register_buffer("cache", torch.zeros(2), persistent=False)

    def training_step(self, batch, batch_idx):
        self.count += 1
        self.seen.append(self.count)
        self.cache += 1
        self.extra = "new"
        self.body[3].p = 0.9
        self.head.bias.requires_grad_(False)
        self.body[3].eval()
        self.accuracy(self(batch[0]), batch[1])
        self.log("train/accuracy", self.accuracy)
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("loop", LOOPS)
def test_nothing_is_left_in_the_module(loop):
    module = Messy()
    attributes = {name: set(part.__dict__) for name, part in module.named_modules()}
    first = run_client(make_task(module, loop()), module, classes())
    assert attributes == {name: set(part.__dict__) for name, part in module.named_modules()}
    assert (module.count, module.seen, module.body[3].p) == (0, [], 0.3)
    assert module.cache.tolist() == [0, 0]
    assert module.head.bias.requires_grad
    assert all(parameter.grad is None for parameter in module.parameters())
    assert all(part.training for part in module.modules())
    assert module._trainer is None
    assert not module.accuracy.update_called
    assert module.accuracy.tp.sum() == 0
    assert 0 <= first.metrics["train/accuracy"] <= 1
    assert "head.bias" in first.delta


def test_a_module_in_evaluation_mode_trains_and_stays_in_evaluation_mode():
    module = Net().eval()
    task = make_task(module, LeanLoop())
    update = run_client(task, module, classes())
    assert not any(part.training for part in module.modules())
    assert same(update.delta, run_client(task, module.train(), classes()).delta)


def test_layers_that_the_user_holds_in_evaluation_mode_stay_in_it():
    module = Net()
    module.body[1].eval()
    update = run_client(make_task(module, LeanLoop()), module, classes())
    assert all((value == 0).all() for value in update.buffers.values())


def test_training_under_no_grad_and_with_another_trainer_attached():
    module = Net()
    module._trainer = outer = object()
    with torch.no_grad():
        run_client(make_task(module, LeanLoop()), module, classes())
    assert module._trainer is outer


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("clip", [None, 0.1])
def test_masked_entries_stay_zero_under_momentum_and_weight_decay(loop, clip):
    seen = []

    class Watching(Net):
        def on_train_batch_end(self, outputs, batch, batch_idx):
            seen.append(self.head.weight.detach().clone())

    module = Watching(weight_decay=0.1)
    mask = torch.rand(3, 6, generator=torch.Generator().manual_seed(0)) < 0.5
    task = make_task(module, loop(epochs=2, gradient_clip_norm=clip), masks={"head.weight": mask})
    update = run_client(task, module, classes())
    assert len(seen) == 6
    assert all((weight[~mask] == 0).all() and (weight[mask] != 0).all() for weight in seen)
    assert (update.delta["head.weight"][~mask] == 0).all()
    assert (update.delta["head.weight"][mask] != 0).all()
    dense = run_client(make_task(module, loop(epochs=2)), module, classes()).upload_bytes
    assert update.upload_bytes == dense - 4 * int((~mask).sum())


def test_a_masked_network_trains_like_the_one_without_the_masked_unit():
    class Small(Net):
        def __init__(self, hidden):
            super().__init__(momentum=0.9, weight_decay=0.01)
            self.body, self.head = nn.Sequential(nn.Linear(4, hidden), nn.Tanh()), nn.Linear(hidden, 3)

    wide, narrow = Small(3), Small(2)
    weights = {name: value.clone() for name, value in wide.state_dict().items()}
    keep = torch.tensor([True, False, True])
    masks = {
        "body.0.weight": keep[:, None].expand(3, 4), "body.0.bias": keep, "head.weight": keep.expand(3, 3),
    }  # fmt: skip
    thin = {
        "body.0.weight": weights["body.0.weight"][keep], "body.0.bias": weights["body.0.bias"][keep],
        "head.weight": weights["head.weight"][:, keep], "head.bias": weights["head.bias"],
    }  # fmt: skip
    local = LeanLoop(epochs=3, gradient_clip_norm=0.2)
    masked = run_client(make_task(wide, local, weights=weights, masks=masks), wide, classes()).delta
    cut = run_client(make_task(narrow, local, weights=thin), narrow, classes()).delta
    assert torch.allclose(masked["body.0.weight"][keep], cut["body.0.weight"], atol=1e-6)
    assert torch.allclose(masked["head.weight"][:, keep], cut["head.weight"], atol=1e-6)


def test_weights_that_do_not_fit_are_named():
    module, local = Net(), LeanLoop()
    weights = dict(module.state_dict())
    lacking = {name: value for name, value in weights.items() if name != "head.bias"}
    with pytest.raises(CheckpointError, match=r"client 3 in round 2 lack head\.bias"):
        run_client(make_task(module, local, weights=lacking), module, classes())
    with pytest.raises(CheckpointError, match=r"head\.bias has shape \(4,\), the module's has \(3,\)"):
        run_client(make_task(module, local, weights={**weights, "head.bias": torch.zeros(4)}), module, classes())
    with pytest.raises(CheckpointError, match=r"hold tail\.bias"):
        run_client(make_task(module, local, weights={**weights, "tail.bias": torch.zeros(4)}), module, classes())


def test_a_client_without_examples_is_refused():
    module = Net()
    with pytest.raises(DataError, match="client 3 has no training examples"):
        run_client(make_task(module, LeanLoop()), module, classes(num_examples=0))


@pytest.mark.parametrize(("num_examples", "words"), [(1, "min_samples: 2"), (2, "raise data.batch_size")])
def test_batch_normalisation_of_a_single_example(num_examples, words):
    module = Net()
    single = classes(num_examples, batch_size=1)
    with pytest.raises(DataError, match=rf"^client 3 .* of which batch normalisation has no variance; .*{words}"):
        run_client(make_task(module, LeanLoop()), module, single)
