"""Sums that know how old an update is: FedBuff's by count, with and without a gain, and FedAsync's mixing."""

from dataclasses import replace

import pytest
import torch

from fedlight.core.types import Job, Timing, Work
from fedlight.errors import ConfigError
from fedlight.parts.aggregation import CountMean, CoverageMean, Mixing
from fedlight.submodels import ChannelCoverage

WEIGHTS, DISCOUNTS = (1.0, 2.0, 3.0), (1.0, 0.5, 0.25)
KEPT = (range(10), (0, 1, 4, 5, 6), (0, 3, 4, 9))


@pytest.fixture
def arrivals(plan, make_update):
    """Three submodels with an update each, of three ages."""
    result = []
    for client, kept in enumerate(KEPT):
        keep = torch.zeros(10, dtype=torch.bool)
        keep[list(kept)] = True
        coverage = ChannelCoverage(plan.structure, keep)
        result.append((coverage, replace(make_update(coverage, client), discount=DISCOUNTS[client])))
    return result


def merge(part, state, arrivals):
    jobs = [Job(n, 0, 0.0, one, Work(0.0, 0, 0), Timing(0.0, 1.0, 0.0), 0.0) for n, (one, _) in enumerate(arrivals)]
    part.begin(state, jobs)
    for (coverage, update), weight in zip(arrivals, WEIGHTS, strict=False):
        part.add(coverage, update, weight * update.discount)
    return part.finish(lambda tensor: None)


def full(plan, arrivals, name):
    """Values in full shape, 0 where not covered, and which entries are."""
    zeros = {key: torch.zeros(shape) for key, shape in plan.structure.shapes.items()}
    ones = {key: torch.ones(shape) for key, shape in plan.structure.shapes.items()}
    values, held = [], []
    for coverage, update in arrivals:
        thin = coverage.slice(zeros)
        thin[name] = {**update.delta, **update.buffers}[name]
        values.append(coverage.regrow(thin, zeros)[name].double())
        held.append(coverage.regrow(coverage.slice(ones), zeros)[name].double())
    return values, held


@pytest.mark.parametrize("max_gain", [1.0, 1.5, float("inf")])
def test_count_mean_by_hand(max_gain, plan, make_state, arrivals):
    merged = merge(CountMean(max_gain), make_state(), arrivals)
    late = [weight * discount for weight, discount in zip(WEIGHTS, DISCOUNTS, strict=True)]
    for name in ("a.weight", "b.weight", "c.weight", "c.bias"):
        values, held = full(plan, arrivals, name)
        count = sum(weight * one for weight, one in zip(late, held, strict=True))
        gain = (sum(late) / count).clamp(max=max_gain)
        expected = gain * sum(weight * one for weight, one in zip(late, values, strict=True)) / sum(WEIGHTS)
        torch.testing.assert_close(merged[name].double(), expected, rtol=1e-6, atol=1e-7)
        assert (merged[name] != 0).any()
    mean = merge(CoverageMean(), make_state(), arrivals)
    torch.testing.assert_close(merged["stat"], mean["stat"])


def test_count_mean_of_fresh_full_models_is_the_mean(make_state, arrivals):
    fresh = [(arrivals[0][0], arrivals[0][1]), (arrivals[0][0], replace(arrivals[0][1], client=1))]
    merged, mean = (merge(part, make_state(), fresh) for part in (CountMean(), CoverageMean()))
    for name, value in mean.items():
        torch.testing.assert_close(merged[name], value)


def test_an_old_update_alone_moves_less_by_count_and_as_much_by_coverage(make_state, arrivals):
    old = [(arrivals[0][0], replace(arrivals[0][1], discount=0.25))]
    counted, covered = (merge(part, make_state(), old) for part in (CountMean(), CoverageMean()))
    torch.testing.assert_close(counted["a.bias"], 0.25 * covered["a.bias"])
    torch.testing.assert_close(covered["a.bias"], old[0][1].delta["a.bias"])


def test_mixing_by_hand(plan, make_state, arrivals):
    """One client at a time, from weights that aren't the server's any more."""
    alpha, state = 0.6, make_state()
    for coverage, update in arrivals:
        values = {**update.delta, **update.buffers}
        began = {name: torch.full_like(value, 0.5) for name, value in values.items()}
        merged = merge(Mixing(alpha), state, [(coverage, replace(update, start=began))])
        grown = coverage.regrow(
            {**coverage.slice(state.weights), **{n: began[n] + values[n] for n in values}}, state.weights
        )
        for name in values:
            now, mix = state.weights[name], alpha * update.discount
            expected = (1 - mix) * now + mix * grown[name]
            torch.testing.assert_close(now + merged[name], expected, rtol=1e-5, atol=1e-6)


def test_mixing_whole_and_fresh_is_the_coverage_mean(make_state, arrivals):
    state = make_state()
    started = [
        (coverage, replace(update, discount=1.0, start=coverage.slice(state.weights))) for coverage, update in arrivals
    ]
    merged, mean = (merge(part, state, started) for part in (Mixing(1.0), CoverageMean()))
    for name, value in mean.items():
        torch.testing.assert_close(merged[name], value, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("make", "refusal"),
    [
        (lambda: CountMean(0.5), "max_gain=0.5 of CountMean is below 1"),
        (lambda: Mixing(0.0), r"alpha=0.0 is outside \(0, 1\]"),
        (lambda: Mixing(1.1), r"alpha=1.1 is outside \(0, 1\]"),
    ],
)
def test_constants_out_of_range_are_refused(make, refusal):
    with pytest.raises(ConfigError, match=refusal):
        make()


def test_without_an_update_nothing_moves(make_state):
    assert merge(CountMean(), make_state(), []) == merge(Mixing(), make_state(), []) == {}
