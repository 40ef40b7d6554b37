"""Oort: numbers by hand, and every call against the rules of its code in plain loops."""

import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlight.core.seeds import SERVER, numpy_generator
from fedlight.errors import ConfigError
from fedlight.parts.selection import Oort
from fedlight.parts.selection.draws import draw_by_weight
from fedlight.parts.selection.losses import root_mean_square_loss
from fedlight.parts.selection.pacer import Pacer


def heard(make_report, client, loss, total_s=1.0, num_examples=10, **changes):
    return make_report(client, total_s=total_s, num_examples=num_examples, metrics={"train/loss": loss}, **changes)


def test_the_loss_is_the_root_of_the_mean_square_where_it_is_logged(make_report):
    assert root_mean_square_loss(make_report(metrics={"train/loss": 2.0, "train/squared_loss": 9.0})) == 3.0
    assert root_mean_square_loss(make_report(metrics={"train/loss": 2.0})) == 2.0
    with pytest.raises(ConfigError, match="neither train/squared_loss nor train/loss"):
        root_mean_square_loss(make_report(metrics={"train/f1": 2.0}))


def test_scores_by_hand(make_state, make_report):
    """Four clients of 10 examples with losses 1..4: U = 10, 20, 30, 40; range 40 - 9.99; R = 2, L = 1; T = 2 s."""
    oort = Oort(round_threshold=50.0, clip=0.5)
    state = make_state(0, num_examples=np.full(4, 10))
    oort.select(state, range(4), 4)
    oort.observe(state, [heard(make_report, n, n + 1.0, total_s=float(n + 1)) for n in range(4)])
    oort.select(make_state(1, num_examples=np.full(4, 10)), [], 0)  # T: durations 1, 2, 3, 4 at int(4 · 0.5) = 3 s
    scores = oort._scores(make_state(1, num_examples=np.full(4, 10)), np.arange(4), np.arange(4))
    bonus = math.sqrt(0.1 * math.log(2) / 1)
    span = 40 - 9.99
    expected = [(10 - 9.99) / span + bonus, (20 - 9.99) / span + bonus]
    expected += [(30 - 9.99) / span + bonus, ((30 - 9.99) / span + bonus) * (3 / 4) ** 2]  # clipped at 30, and slow
    np.testing.assert_allclose(scores, expected, rtol=1e-12)


class PlainOort:
    """The rules of SymbioticLab/Oort, client by client, with the differences that the docstring lists."""

    def __init__(self, sizes, threshold=10.0, epsilon=0.9, decay=0.95, floor=0.2, clip=0.98, cut=0.7, alpha=2.0):
        self.sizes, self.threshold, self.epsilon, self.decay, self.floor = sizes, threshold, epsilon, decay, floor
        self.clip, self.cut, self.alpha = clip, cut, alpha
        self.known = {}
        self.history, self.exploit, self.success = [], [], set()

    def pacer(self, now):
        mine = [n for n in self.exploit if n in self.success]
        self.history.append(sum(self.known[n][0] for n in mine) / (1e-4 + len(mine)))
        self.success = set()
        if now >= 40 and now % 20 == 0:
            before, recent = sum(self.history[-40:-20]), sum(self.history[-20:])
            if abs(recent - before) <= before * 0.1:
                self.threshold = min(100.0, self.threshold + 5)
            elif abs(recent - before) >= before * 5:
                self.threshold = max(5.0, self.threshold - 5)

    def select(self, now, candidates, count, generator):
        self.pacer(now)
        preferred = math.inf
        if self.threshold < 100 and self.known:
            durations = sorted(entry[1] for entry in self.known.values())
            preferred = durations[min(int(len(durations) * self.threshold / 100), len(durations) - 1)]
        rewards = sorted(r for n in candidates if (r := self.known[n][0] if n in self.known else self.sizes[n]) > 0)
        scores = {}
        for n in candidates:
            if n in self.known:
                utility, duration, last = self.known[n]
                low, high = rewards[0] * 0.999 if rewards else 0.0, rewards[-1] if rewards else 0.0
                limit = rewards[min(int(len(rewards) * self.clip), len(rewards) - 1)] if rewards else 0.0
                score = (min(utility, limit) - low) / max(high - low, 1e-4) + math.sqrt(0.1 * math.log(now) / last)
                if duration > preferred:
                    score *= (preferred / duration) ** self.alpha
                scores[n] = max(0.0, score)
        self.epsilon = max(self.epsilon * self.decay, self.floor)
        count = min(count, len(candidates))
        num = min(int(count * (1 - self.epsilon)), len(scores))
        picked = []
        if num:
            ranked = sorted(scores.values(), reverse=True)
            cut = ranked[min(num, len(ranked) - 1)] * self.cut
            good = [n for n in candidates if n in scores and scores[n] >= cut]
            picked = draw_by_weight(generator, np.array(good), np.array([scores[n] for n in good]), num).tolist()
        self.exploit = picked
        new = [n for n in candidates if n not in self.known]
        num_new = min(len(new), count - len(picked))
        window = sorted(new, key=lambda n: -self.sizes[n])[: int(5.0 * num_new)]
        sizes = np.array([float(self.sizes[n]) for n in window])
        picked += draw_by_weight(generator, np.array(window, dtype=np.int64), sizes, num_new).tolist()
        rest = np.array([n for n in candidates if n not in picked], dtype=np.int64)
        if len(picked) < count:
            picked += generator.permutation(rest)[: count - len(picked)].tolist()
        if len(self.known) == len(self.sizes):
            self.epsilon = self.floor = 0.0
        return picked

    def hear(self, client, utility, duration, now):
        self.known[client] = (utility, duration, now)
        self.success.add(client)


def test_every_call_is_that_of_the_plain_loops(make_state, make_report):
    rng = np.random.default_rng(0)
    sizes = rng.integers(5, 50, 30)
    oort, plain = Oort(), PlainOort(sizes)
    thresholds = set()
    for t in range(120):
        state = make_state(t, num_examples=sizes)
        candidates = sorted(rng.choice(30, size=int(rng.integers(3, 30)), replace=False).tolist())
        cohort = oort.select(state, candidates, 6)
        assert cohort == plain.select(t + 1, candidates, 6, numpy_generator(0, t, SERVER, "selection"))
        back = [client for client in cohort if rng.random() < 0.9]
        losses, durations = rng.exponential(2.0 / (1 + t), len(back)), rng.lognormal(0, 1, len(back))
        oort.observe(
            state,
            [
                heard(make_report, n, loss, total_s, int(sizes[n]))
                for n, loss, total_s in zip(back, losses, durations, strict=True)
            ],
        )
        for n, loss, total_s in zip(back, losses, durations, strict=True):
            plain.hear(n, sizes[n] * loss, total_s, t + 1)
        assert oort.metrics()["selection/exploration"] == plain.epsilon
        thresholds.add(plain.threshold)
        assert oort.metrics()["selection/percentile"] == plain.threshold
    assert len(thresholds) > 1
    assert plain.epsilon == 0.0


@pytest.mark.parametrize(
    ("utilities", "percentile"), [([1.0] * 4, 15.0), ([1.0, 1.0, 9.0, 9.0], 5.0), ([1, 1, 2, 2], 10)]
)
def test_the_pacer_moves_when_utility_is_flat_or_jumps(utilities, percentile):
    pacer = Pacer(10.0, step=2, delta=5.0)
    for number, utility in enumerate(utilities, 1):
        pacer.begin_round(number, utility)
    assert pacer.percentile == percentile
    assert pacer.preferred_s(np.zeros(0)) == math.inf
    assert Pacer(100.0, 2, 5.0).preferred_s(np.array([1.0])) == math.inf
    assert Pacer(50.0, 2, 5.0).preferred_s(np.array([3.0, 1.0, 2.0, 4.0])) == 3.0


def test_the_pacer_stays_within_its_ends():
    pacer = Pacer(98.0, step=1, delta=5.0)
    for number in range(1, 4):
        pacer.begin_round(number, 1.0)
    assert pacer.percentile == 100.0
    pacer = Pacer(6.0, step=1, delta=5.0)
    for number in range(1, 6):
        pacer.begin_round(number, 10.0**number)
    assert pacer.percentile == 5.0


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_always_as_many_different_clients_as_there_are(settled, data):
    _, make = settled
    oort = Oort(blacklist_rounds=1)
    for t in range(4):
        candidates = data.draw(st.lists(st.integers(0, 99), unique=True, max_size=30).map(sorted))
        count = data.draw(st.integers(0, 40))
        cohort = oort.select(make(t), candidates, count)
        assert len(cohort) == len(set(cohort)) == min(count, len(candidates))
        assert set(cohort) <= set(candidates)
        oort.observe(make(t), [fake_report(n, data.draw(st.floats(0, 5))) for n in cohort])


def fake_report(client, loss, **changes):
    from fedlight.core.types import Report, Timing, Work

    values = {
        "client": client, "round_idx": 0, "ratio": 0.0, "work": Work(1.0, 1, 1), "timing": Timing(0.0, 1.0, 0.0),
        "finish_s": 1.0, "num_examples": 10, "metrics": {"train/loss": loss}, "weight": 1.0, "contribution": None,
        "accepted": True, "upload_bytes": 1,
    }  # fmt: skip
    return Report(**(values | changes))


def test_a_resumed_run_goes_on_as_it_would_have(make_state):
    def play(oort, rounds):
        cohorts = []
        for t in rounds:
            cohorts.append(oort.select(make_state(t), range(100), 10))
            oort.observe(make_state(t), [fake_report(n, 1.0 / (1 + n)) for n in cohorts[-1]])
        return cohorts

    straight = Oort()
    whole = play(straight, range(30))
    first, second = Oort(), Oort()
    play(first, range(15))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    second.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    assert play(second, range(15, 30)) == whole[15:]


def test_slow_clients_and_dull_ones_are_rare(make_state):
    """Of 100 clients half are slow, half dull: after exploring, those that are neither get most of the work."""
    oort, counts = Oort(exploration_decay=0.8, round_threshold=40.0), np.zeros(100)
    for t in range(150):
        cohort = oort.select(make_state(t, num_examples=np.full(100, 10)), range(100), 10)
        oort.observe(
            make_state(t),
            [fake_report(n, 3.0 if n % 2 else 0.1, timing=timing(9.0 if n >= 50 else 1.0)) for n in cohort],
        )
        counts[cohort] += t >= 50
    good = counts[1:50:2].sum() / counts.sum()
    assert good > 0.5


def timing(total_s):
    from fedlight.core.types import Timing

    return Timing(0.0, total_s, 0.0)


def test_what_is_not_finite_teaches_nothing(make_state):
    oort = Oort()
    oort.select(make_state(0), range(10), 2)
    oort.observe(make_state(0), [fake_report(3, 1.0, accepted=False, metrics={})])
    assert oort._utility[3] == 0.0
    assert oort._num_times[3] == 1


def test_wrong_options_are_refused():
    for option in (
        {"exploration": 1.5}, {"cut_off": -0.1}, {"round_threshold": 0.0}, {"pacer_step": 0}, {"round_penalty": -1.0},
        {"sample_window": 0.5}, {"clip": float("nan")},
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=next(iter(option))):
            Oort(**option)
