"""Proximal term, unequal work and label smoothing: both loops alike, by hand, and clear about what can't be."""

import copy
import pickle

import pytest
import torch
from clients import Net, Scalar, classes, make_task, targets
from hypothesis import given
from hypothesis import strategies as st
from plain_submodels import run as run_toy
from torch import nn
from torch.nn.functional import cross_entropy

from fedlight.algorithms import FedAvg, FedProx
from fedlight.core.client import run_client
from fedlight.core.slots import Local
from fedlight.core.types import Timing, Work
from fedlight.errors import ConfigError, UnsupportedClientError
from fedlight.parts.local import EqualWork, LeanLoop, Proximal, Stragglers, TimeMatchedWork, TrainerLoop

LOOPS = [LeanLoop, TrainerLoop]
both_loops = pytest.mark.parametrize("loop", LOOPS)


def run(module, local, data=None, **changes):
    return run_client(make_task(module, local, **changes), module, data or classes())


def same(one, other):
    return all(torch.equal(one.delta[name], other.delta[name]) for name in other.delta)


# Proximal term --------------------------------------------------------------------------------------------------------


@both_loops
def test_the_pull_by_hand(loop):
    """w: 0 → ½ → ½: at ½ the gradient -½ of the loss and the pull μ·½ are level. Statistics are of the loss alone."""
    update = run(
        Scalar(lr=0.5),
        loop(epochs=2, proximal=Proximal(mu=1.0)),
        targets(1.0),
        statistics=frozenset({"sq_grad"}),
    )
    assert update.delta["w"] == 0.5
    assert update.statistics["sq_grad"]["w"] == 1.0 + 0.25


@both_loops
def test_momentum_sees_the_pull(loop):
    """v: -1, then 0.9·(-1) + (-½ + ½); w: ½, then ½ + ½·0.9."""
    update = run(Scalar(lr=0.5, momentum=0.9), loop(epochs=2, proximal=Proximal(mu=1.0)), targets(1.0))
    assert update.delta["w"] == pytest.approx(0.95)


@both_loops
def test_the_pull_is_clipped_with_the_gradient(loop):
    """Both gradients, -1 and 0.05 - 1 + 100 · 0.05 with the pull, are clipped to length 0.1: there and back again."""
    update = run(Scalar(lr=0.5), loop(epochs=2, gradient_clip_norm=0.1, proximal=Proximal(mu=100.0)), targets(1.0))
    assert update.delta["w"] == pytest.approx(0.0, abs=1e-6)


@both_loops
def test_without_a_pull_nothing_changes(loop):
    torch.manual_seed(0)
    module = Net()
    start = copy.deepcopy(module)
    assert same(run(module, loop(epochs=2, proximal=Proximal(mu=0.0))), run(start, loop(epochs=2)))


def test_running_statistics_are_not_pulled():
    torch.manual_seed(0)
    module = Net(lr=0.0)
    start = copy.deepcopy(module)
    pulled, free = run(module, LeanLoop(proximal=Proximal(mu=9.0))), run(start, LeanLoop())
    assert all(torch.equal(pulled.buffers[name], free.buffers[name]) for name in free.buffers)


def test_entries_that_a_mask_leaves_out_stay_zero():
    torch.manual_seed(0)
    module = Net()
    mask = torch.rand(6, 4) < 0.5
    update = run(module, LeanLoop(epochs=2, proximal=Proximal(mu=1.0)), masks={"body.0.weight": mask})
    assert not update.delta["body.0.weight"][~mask].any()


def test_adaptive_mu_by_hand(make_report):
    term = Proximal(mu=0.0, adaptive=True)

    def after(*losses):
        for loss in losses:
            term.observe([make_report(metrics={"train/loss": loss})])
        return round(term.mu, 9)

    assert after(1.0) == 0.0
    assert after(2.0) == 0.1  # rose
    assert after(3.0) == 0.2
    assert after(2.9, 2.8, 2.7, 2.6) == 0.2  # four falls
    again = Proximal(mu=0.0, adaptive=True)
    again.load_state_dict(pickle.loads(pickle.dumps(term.state_dict())))  # noqa: S301 - our own bytes
    assert after(2.5) == 0.1  # the fifth
    assert after(2.4, 2.3, 2.3, 2.2, 2.1, 2.0, 1.9) == 0.1  # an equal loss ends the run
    assert after(1.8) == 0.0
    assert after(1.7, 1.6, 1.5, 1.4, 1.3) == 0.0  # not below 0
    again.observe([make_report(metrics={"train/loss": 2.5})])
    assert round(again.mu, 9) == 0.1


def test_mu_listens_to_the_mean_by_examples(make_report):
    term = Proximal(mu=0.0, adaptive=True)
    term.observe([make_report(0, metrics={"train/loss": 1.0}), make_report(1, metrics={"train/loss": 1.0})])
    told = {"metrics": {"train/loss": 0.0}, "num_examples": 30}
    term.observe([make_report(0, **told), make_report(1, metrics={"train/loss": 3.0}), make_report(2, accepted=False)])
    assert term.mu == 0.0  # (0·30 + 3·10) / 40 < 1


def test_mu_is_logged_where_it_adapts():
    assert LeanLoop(proximal=Proximal(mu=0.5, adaptive=True)).metrics() == {"local/mu": 0.5}
    assert LeanLoop(proximal=Proximal(mu=0.5)).metrics() == {}


# Unequal work ---------------------------------------------------------------------------------------------------------


@both_loops
@pytest.mark.parametrize(
    ("arguments", "share", "num_steps", "num_examples"),
    [
        ({"epochs": 4}, 1.0, 12, 48),  # 12 examples in 3 batches
        ({"epochs": 4}, 0.5, 6, 24),
        ({"epochs": 7}, 3 / 7, 9, 36),
        ({"epochs": 4}, 0.4, 4, 16),  # ⌊4.8⌋
        ({"epochs": 4}, 1e-6, 1, 4),
        ({"steps": 5}, 0.6, 3, 12),
        ({"steps": 5}, 0.1, 1, 4),
    ],
)
def test_a_share_of_the_work(loop, arguments, share, num_steps, num_examples):
    local, data = loop(**arguments), classes()
    assert run(Net(), local, data, share=share).num_steps == num_steps
    assert local.num_examples(data, share) == num_examples


@given(fraction=st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]), size=st.integers(1, 20), seed=st.integers(0, 50))
def test_stragglers_are_as_many_as_said(settled, fraction, size, seed):
    state = settled[1](seed)
    cohort = list(range(7, 7 + size))
    shares = Stragglers(fraction).shares(state, cohort, {}, 20)
    dropped = [
        client for client, share in Stragglers(fraction, keep=False).shares(state, cohort, {}, 20).items() if not share
    ]
    assert list(shares) == cohort
    assert all(round(20 * share, 9) in range(1, 21) for share in shares.values())
    assert abs(len(dropped) - fraction * size) <= 1
    assert len(dropped) == min(size - 1, round(fraction * size)) or fraction * size % 1
    assert all(shares[client] == 1.0 for client in cohort if client not in dropped) or len(dropped) == size - 1
    assert Stragglers(fraction).shares(state, cohort[::-1], {}, 20) == shares


def test_stragglers_do_one_to_all_epochs_and_change_by_round(settled):
    works = [share for r in range(200) for share in Stragglers(1.0).shares(settled[1](r), [0], {}, 3).values()]
    assert {round(3 * work) for work in works} == {1, 2, 3}  # the paper's range; its code never draws the last


def test_one_client_at_a_time_straggles_by_chance(settled):
    dropped = sum(Stragglers(0.3).shares(settled[1](r), [4], {}, 10**6)[4] < 1 for r in range(300))
    assert 60 < dropped < 120


def test_fedavg_drops_stragglers_and_does_not_wait_for_them():
    dropping = FedAvg(local=LeanLoop(epochs=2, work=Stragglers(0.5, keep=False)))
    keeping = FedAvg(local=LeanLoop(epochs=2, work=Stragglers(0.5)))
    dropped, kept = run_toy(dropping, 3), run_toy(keeping, 3)
    for round_idx in range(3):
        assert len(dropped.told[round_idx]) == 2
        assert len(kept.told[round_idx]) == 4
        partial = [n for n, report in kept.told[round_idx].items() if report.share < 1]
        assert not set(partial) & set(dropped.told[round_idx])
    assert dropped.clock.now_s < kept.clock.now_s


def test_work_matches_times_by_hand(make_state, make_report):
    """Sending takes 1 s each way; computing 4, 8 and 32 s for the whole: shares 1, ½ and ⅛, once times are known."""
    compute_s = [4.0, 8.0, 32.0]
    state = make_state(price=lambda client, ratio, share=1.0, level=1.0: Work(100.0 * share, 10, 10))
    work = TimeMatchedWork()
    ratios = dict.fromkeys(range(3), 0.0)
    assert set(work.shares(state, [0, 1, 2], ratios, 1).values()) == {1.0}

    def reports():
        for client, whole_s in enumerate(compute_s):
            for share in (1.0, 0.5):
                done = Work(100.0 * share, 10, 10)
                yield make_report(client, work=done, timing=Timing(1.0, whole_s * share, 1.0))

    work.observe(list(reports()))
    assert work.shares(state, [0, 1, 2], ratios, 1) == pytest.approx({0: 1.0, 1: 0.5, 2: 0.125}, rel=1e-6)
    median = TimeMatchedWork("median")
    median.load_state_dict(work.state_dict())
    assert median.shares(state, [0, 1, 2], ratios, 1) == pytest.approx({0: 1.0, 1: 1.0, 2: 0.25}, rel=1e-6)


def test_a_client_that_cannot_even_send_in_time_does_one_step(make_state, make_report):
    state = make_state(price=lambda client, ratio, share=1.0, level=1.0: Work(100.0 * share, 10, 10))
    work = TimeMatchedWork()
    work.observe([make_report(n, work=Work(100.0, 10, 10), timing=Timing(t, 1.0, t)) for n, t in enumerate((1.0, 9.0))])
    shares = work.shares(state, [0, 1], {0: 0.0, 1: 0.0}, 1)
    assert shares[0] == 1.0
    assert LeanLoop(epochs=2).num_examples(classes(), shares[1]) == 4


# Label smoothing ------------------------------------------------------------------------------------------------------


class Smooth(Net):
    def __init__(self, way, amount=0.0):
        super().__init__(dropout=0.0)
        self.way, self.criterion, self.amount = way, nn.CrossEntropyLoss(), amount

    def training_step(self, batch, batch_idx):
        logits, labels = self(batch[0]), batch[1]
        ways = {
            "module": lambda: self.criterion(logits, labels),
            "function": lambda: nn.functional.cross_entropy(logits, labels, label_smoothing=self.amount),
            "imported": lambda: cross_entropy(logits, labels),
            "other": lambda: nn.functional.nll_loss(logits.log_softmax(1), labels),
        }
        return ways[self.way]()


@both_loops
@pytest.mark.parametrize("way", ["module", "function", "imported"])
def test_smoothing_equals_the_modules_own(loop, way):
    torch.manual_seed(0)
    module = Smooth(way)
    expected = Smooth("function", amount=0.2)
    expected.load_state_dict(module.state_dict())
    smoothed = run(module, loop(epochs=2, label_smoothing=0.2))
    assert same(smoothed, run(expected, loop(epochs=2)))
    assert "training_step" not in vars(module)
    logits, labels = torch.randn(3, 4), torch.tensor([0, 1, 2])
    assert torch.equal(cross_entropy(logits, labels), cross_entropy(logits, labels, label_smoothing=0.0))


@both_loops
@pytest.mark.parametrize(
    ("module", "message"),
    [(Smooth("other"), "label_smoothing needs Smooth"), (Smooth("function", 0.1), "smooths labels itself")],
)
def test_what_cannot_be_smoothed_is_refused(loop, module, message):
    with pytest.raises(UnsupportedClientError, match=message):
        run(module, loop(label_smoothing=0.1))


# Refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Proximal(mu=-1.0), "mu=-1"),
        (lambda: Proximal(mu=float("nan")), "mu=nan"),
        (lambda: Proximal(step=0.0), "step=0"),
        (lambda: Proximal(patience=0), "patience=0"),
        (lambda: Stragglers(1.5), "fraction=1.5"),
        (lambda: TimeMatchedWork("first"), "target='first'"),
        (lambda: TimeMatchedWork(forgetting=0.0), "forgetting=0"),
        (lambda: LeanLoop(label_smoothing=1.0), "label_smoothing=1"),
        (lambda: LeanLoop(label_smoothing=0.1, masked_logits="-inf"), "masked_logits '-inf'"),
        (lambda: FedProx(mu=-0.1), "mu=-0.1"),
        (lambda: FedProx(local=LeanLoop(proximal=Proximal())), "sets proximal"),
        (lambda: FedProx(local=LeanLoop(work=EqualWork()), work=EqualWork()), "sets work"),
    ],
)
def test_constants_out_of_range_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_fedprox_needs_a_loop_that_it_can_add_to():
    class Own(Local):
        check = num_examples = lr_factor = fit = None

    with pytest.raises(ConfigError, match="local of FedProx is Own"):
        FedProx(local=Own())


def test_fedprox_leaves_the_given_loop_as_it_was():
    loop = TrainerLoop(epochs=3)
    assert isinstance(FedProx(local=loop).local.work, TimeMatchedWork)
    assert loop.work is None
    assert isinstance(FedProx(local=LeanLoop(work=EqualWork())).local.work, EqualWork)


def test_fedprox_without_pull_and_at_equal_work_is_fedavg():
    pulled = run_toy(FedProx(mu=0.0, work=EqualWork(), local=LeanLoop(epochs=3)), 3)
    plain = run_toy(FedAvg(local=LeanLoop(epochs=3)), 3)
    for name, value in plain.client.state_dict().items():
        assert torch.equal(pulled.client.state_dict()[name], value)


def test_manual_optimisation_is_pulled_too():
    class ByHand(Scalar):
        def __init__(self, **options):
            super().__init__(**options)
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            optimizer.step()

    assert run(ByHand(lr=0.5), TrainerLoop(epochs=2, proximal=Proximal(mu=1.0)), targets(1.0)).delta["w"] == 0.5
