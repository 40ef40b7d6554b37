"""Contributions that see no server data: diversity of updates, volume and statistics of features, information."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedlight.core.coalitions import Coalitions, Member
from fedlight.core.types import ClientData, Job, Timing, Work
from fedlight.errors import ConfigError, UnsupportedClientError
from fedlight.parts import CompositeStatistics, CoverageMean, GramLeaveOneOut, InformationGain, RobustVolume
from fedlight.parts.contribution.gram import leave_one_out
from fedlight.parts.contribution.volume import log_robust_volume, log_volume
from fedlight.submodels import ChannelCoverage


def coverage_of(plan, kept=range(10)):
    keep = torch.zeros(10, dtype=torch.bool)
    keep[list(kept)] = True
    return ChannelCoverage(plan.structure, keep)


def coalitions_of(state, arrivals):
    members = [Member(Job(u.client, 0, 0.0, c, Work(1.0, 1, 1), Timing(0, 1, 0), 0.0, u), u, 1.0) for c, u in arrivals]
    return Coalitions(state, members, {}, CoverageMean())


def pointing(plan, make_update, client, bias, kept=range(10)):
    coverage = coverage_of(plan, kept)
    update = make_update(coverage, client)
    update.delta = {name: torch.zeros_like(value) for name, value in update.delta.items()}
    update.delta["a.bias"] = torch.tensor(bias)
    return coverage, update


# Gram leave-one-out -------------------------------------------------------------------------------------------------


def test_gram_of_two_clients_by_hand(plan, make_state, make_update):
    """A = [[2, c], [c, 2]] with c the cosine: (A⁻¹)_nn = 2 / (4 - c²), so v(N) - v(N - n) = log((4 - c²) / 2)."""
    state = make_state()
    arrivals = [
        pointing(plan, make_update, 0, [3.0, 4.0, 0.0, 0.0]),
        pointing(plan, make_update, 1, [2.0, 0.0, 0.0, 0.0]),
    ]
    scores = GramLeaveOneOut().score_cohort(state, coalitions_of(state, arrivals))
    assert scores == pytest.approx(dict.fromkeys((0, 1), math.log((4 - 0.6**2) / 2)))


def test_duplicates_share_and_who_is_alone_counts_fully(plan, make_state, make_update):
    """Two that are the same: A⁻¹ of [[2, 1], [1, 2]] has ⅔ on its diagonal; one orthogonal to all: ½; zeros: 1."""
    state = make_state()
    arrivals = [
        pointing(plan, make_update, 0, [1.0, 0.0, 0.0, 0.0]), pointing(plan, make_update, 1, [5.0, 0.0, 0.0, 0.0]),
        pointing(plan, make_update, 2, [0.0, 1.0, 0.0, 0.0]), pointing(plan, make_update, 3, [0.0] * 4),
    ]  # fmt: skip
    scores = GramLeaveOneOut().score_cohort(state, coalitions_of(state, arrivals))
    assert scores == pytest.approx({0: math.log(1.5), 1: math.log(1.5), 2: math.log(2.0), 3: 0.0})


def test_submodels_meet_where_they_overlap(plan, make_state, make_update):
    """Client 0 holds units 0, 1 and client 1 units 1, 2: they share one entry, so the cosine is .8 · .6."""
    state = make_state()
    arrivals = [
        pointing(plan, make_update, 0, [0.6, 0.8], (0, 1, 4)), pointing(plan, make_update, 1, [0.6, 0.8], (1, 2, 4)),
    ]  # fmt: skip
    scores = GramLeaveOneOut().score_cohort(state, coalitions_of(state, arrivals))
    assert scores[0] == pytest.approx(math.log((4 - 0.48**2) / 2))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.floats(0.1, 10.0))
def test_the_closed_form_is_the_difference_of_determinants(seed, size, noise):
    rows = torch.randn(size, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    gram = rows @ rows.T
    matrix = torch.eye(size, dtype=torch.float64) + gram / noise**2
    for n, marginal in enumerate(leave_one_out(gram, noise).tolist()):
        rest = [m for m in range(size) if m != n]
        expected = torch.logdet(matrix) - (torch.logdet(matrix[rest][:, rest]) if rest else 0.0)
        assert marginal == pytest.approx(float(expected), abs=1e-9)
        assert marginal >= -1e-12


# Robust volume ------------------------------------------------------------------------------------------------------


def test_volumes_by_hand():
    rows = torch.tensor([[3.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    assert float(log_volume(rows)) == pytest.approx(math.log(6.0))
    # cubes of side 1: two, one row each; a = 1/20, ρ = 1 + a for both
    assert float(log_robust_volume(rows, 1.0)) == pytest.approx(math.log(6.0 * 1.05**2))
    # a third row in the cube of the first: their mean counts as one row, ρ = 1 + a + a² there
    close = torch.cat([rows, torch.tensor([[3.5, 0.5]], dtype=torch.float64)])
    means = torch.tensor([[3.25, 0.25], [0.0, 2.0]], dtype=torch.float64)
    determinant = abs(3.25 * 2.0)  # of the square matrix of means
    assert float(log_volume(means)) == pytest.approx(math.log(determinant))
    assert float(log_robust_volume(close, 1.0)) == pytest.approx(math.log(determinant * 1.05 * (1.05 + 0.05**2)))


def test_copies_raise_a_volume_without_bound_and_a_robust_one_hardly():
    rows = torch.rand(8, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    many = rows.repeat(50, 1)
    assert float(log_volume(many) - log_volume(rows)) == pytest.approx(math.log(50.0), rel=1e-6)
    robust = float(log_robust_volume(many, 0.1) - log_robust_volume(rows, 0.1))
    assert 0 <= robust <= 8 * -math.log(1 - 1 / 80) + 1e-9  # Π 1 / (1 - a) over at most eight cubes


class Rows(ClientData):
    def __init__(self, *batches):
        self.batches = batches

    @property
    def num_examples(self):
        return sum(len(x) for x, _ in self.batches)

    @property
    def num_batches(self):
        return len(self.batches)

    def epoch(self, generator):
        yield from self.batches

    def in_order(self):
        yield from self.batches


class Net(nn.Module):
    example_input_array = torch.zeros(2, 3)

    def forward(self, x):
        return x


def draw(seed, n=40, scale=1.0, shift=0.0):
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed)) * scale + shift
    return Rows((x[: n // 2], None), (x[n // 2 :], None))


def told(part, plan, make_update, client, data):
    coverage = coverage_of(plan)
    update = make_update(coverage, client, num_examples=data.num_examples)
    update.summary = part.summary(client)(Net(), data, 7) if part.summary(client) else None
    return coverage, update


def run_round(part, state, arrivals, reduce=lambda tensor: None):
    part.begin(state)
    for coverage, update in arrivals:
        part.add(coverage, update, 1.0)
    part.finish(reduce)
    scores = {update.client: part.score(coverage, update) for coverage, update in arrivals}
    part.observe(state, {client: score for client, score in scores.items() if score is not None})
    return scores


def test_wider_data_have_more_volume_and_a_client_tells_it_once(plan, make_state, make_update):
    part, state = RobustVolume(num_dims=2), make_state()
    arrivals = [told(part, plan, make_update, n, draw(n, scale=s)) for n, s in enumerate((1.0, 3.0, 0.1))]
    assert arrivals[0][1].summary.numel() == 1  # all that leaves a client
    scores = run_round(part, state, arrivals)
    assert scores[1] > scores[0] > scores[2]
    assert part.summary(0) is None
    for _, update in arrivals:
        update.summary = None
    assert run_round(part, state, arrivals) == scores
    again = RobustVolume(num_dims=2)
    assert again.summary(0) is not None
    again.load_state_dict(part.state_dict())
    assert again.summary(0) is None
    assert run_round(again, state, arrivals) == scores


def test_a_client_of_fewer_rows_than_dims_has_a_small_but_finite_volume(plan, make_state, make_update):
    part = RobustVolume(num_dims=5)
    few, many = (told(part, plan, make_update, n, draw(1, size)) for n, size in enumerate((2, 40)))
    scores = run_round(part, make_state(), [few, many])
    assert math.isfinite(scores[0])
    assert scores[0] < scores[1] - 5


def test_tokens_have_no_features(plan):
    tokens = Rows((torch.zeros(4, 3, dtype=torch.int64), None))
    with pytest.raises(UnsupportedClientError, match="GramLeaveOneOut"):
        RobustVolume().summary(0)(Net(), tokens, 0)


# Composite statistics -----------------------------------------------------------------------------------------------


def test_alike_clients_score_their_share_and_a_stranger_less(plan, make_state, make_update):
    part, state = CompositeStatistics(num_dims=2), make_state()
    twins = [told(part, plan, make_update, n, draw(1)) for n in range(2)]
    assert twins[0][1].summary.shape == (2, 2)
    assert run_round(part, state, twins) == pytest.approx({0: 0.5, 1: 0.5})
    stranger = told(part, plan, make_update, 2, draw(1, shift=5.0))
    scores = run_round(part, state, [*twins, stranger])
    assert scores[0] == scores[1] > scores[2] > 0


def test_composite_by_hand(plan, make_state, make_update):
    """One dim: means ±1, variances 1, 10 and 10 examples: pooled mean 0, variance 2; d² = (1 + (√2 - 1)²) / 2."""
    part = CompositeStatistics(num_dims=1)
    arrivals = []
    for client, mean in enumerate((1.0, -1.0)):
        coverage = coverage_of(plan)
        summary = torch.tensor([[mean], [1.0]], dtype=torch.float64)
        arrivals.append((coverage, make_update(coverage, client, num_examples=10, summary=summary)))
    distance = (1 + (math.sqrt(2) - 1) ** 2) / 2
    assert run_round(part, make_state(), arrivals) == pytest.approx(
        dict.fromkeys((0, 1), 0.5 * math.exp(-distance / 2))
    )


def test_composite_over_two_processes_is_that_of_one(plan, make_state, make_update, two_processes):
    part = CompositeStatistics(num_dims=2)
    arrivals = [told(part, plan, make_update, n, draw(n, scale=1.0 + n)) for n in range(3)]
    single = run_round(CompositeStatistics(num_dims=2), make_state(), arrivals)
    shares = [arrivals[:1], arrivals[1:]]
    results = two_processes(
        lambda rank, reduce: run_round(CompositeStatistics(num_dims=2), make_state(), shares[rank], reduce)
    )
    assert {**results[0], **results[1]} == pytest.approx(single, rel=1e-12)


def test_a_summary_of_nan_gives_no_score(plan, make_state, make_update):
    coverage = coverage_of(plan)
    summary = torch.full((2, 1), torch.nan, dtype=torch.float64)
    update = make_update(coverage, 0, summary=summary)
    assert run_round(CompositeStatistics(num_dims=1), make_state(), [(coverage, update)]) == {0: None}
    scalar = replace(update, summary=torch.tensor(torch.inf, dtype=torch.float64))
    assert run_round(RobustVolume(), make_state(), [(coverage, scalar)]) == {0: None}


# Information gain ---------------------------------------------------------------------------------------------------


def informed(plan, make_update, values, kept=range(10), num_steps=2, num_examples=6):
    coverage = coverage_of(plan, kept)
    update = make_update(coverage, 0, num_steps=num_steps, num_examples=num_examples)
    update.statistics = {"sq_grad": {name: torch.tensor(value) for name, value in values.items()}}
    return coverage, update


def test_information_gain_by_hand(plan, make_state, make_update):
    """F = (1, 3) / 2 steps, 6 examples, λ = 3: ½ [log(1 + 6 · ½ / 3) + log(1 + 6 · 1.5 / 3)]."""
    part = InformationGain(prior_precision=3.0, layers="all")
    plan.output_rows = ()
    part.begin(make_state(plan=plan))
    one = informed(plan, make_update, {"c.bias": [1.0, 3.0, 0.0]})
    assert part.score(*one) == pytest.approx(0.5 * (math.log(2) + math.log(4)))


def test_information_adds_over_parameters_and_grows_with_examples(plan, make_state, make_update):
    plan.output_rows = ()
    part = InformationGain(layers="all")
    part.begin(make_state(plan=plan))
    first, second = {"c.bias": [1.0, 3.0, 0.5]}, {"a.bias": [0.1, 0.2, 0.3, 0.4]}
    gains = [part.score(*informed(plan, make_update, values)) for values in (first, second, {**first, **second})]
    assert gains[2] == pytest.approx(gains[0] + gains[1])
    assert part.score(*informed(plan, make_update, first, num_examples=12)) > gains[0] > 0
    assert part.score(*informed(plan, make_update, {"c.bias": [0.0] * 3})) == 0.0  # null player


def test_what_a_client_holds_stands_for_the_rest(plan, make_state, make_update):
    plan.output_rows = ()
    scores = {}
    for support in ("covered", "full"):
        part = InformationGain(layers="all", support=support)
        part.begin(make_state(plan=plan))
        whole = part.score(*informed(plan, make_update, {"a.bias": [1.0] * 4}))
        thin = part.score(*informed(plan, make_update, {"a.bias": [1.0]}, kept=(0, 4)))
        scores[support] = thin / whole
    assert scores == pytest.approx({"covered": 1.0, "full": 0.25})


def test_the_last_layer_alone_counts_by_default(plan, make_state, make_update):
    plan.output_rows = ("c.bias",)
    part = InformationGain()
    part.begin(make_state(plan=plan))
    both = {"c.bias": [1.0, 3.0, 0.5], "a.bias": [0.1, 0.2, 0.3, 0.4]}
    alone = {"c.bias": [1.0, 3.0, 0.5]}
    assert part.score(*informed(plan, make_update, both)) == part.score(*informed(plan, make_update, alone))
    assert part.score(*informed(plan, make_update, alone, num_steps=0)) is None
    plan.output_rows = ()
    with pytest.raises(ConfigError, match="layers: all"):
        part.begin(make_state(plan=plan))


def test_wrong_options_are_refused():
    for part, option in (
        (GramLeaveOneOut, {"noise": 0.0}), (RobustVolume, {"side": -1.0}), (RobustVolume, {"num_dims": 11}),
        (CompositeStatistics, {"num_dims": 0}), (InformationGain, {"prior_precision": 0.0}),
        (InformationGain, {"layers": "first"}), (InformationGain, {"support": "half"}),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=next(iter(option))):
            part(**option)
