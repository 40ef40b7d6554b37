"""Scores against plain loops over (tensor, dim, position), and by hand."""

import math
from types import SimpleNamespace

import pytest
import torch

from fedlight.errors import ConfigError
from fedlight.parts.importance import AbsoluteChange, ClientStatistic, Magnitude, PrefixOrder, RandomOrder
from fedlight.parts.importance.units import UnitSums
from fedlight.submodels import ChannelCoverage, MaskCoverage

PARAMETERS = ("a.weight", "a.bias", "b.weight", "c.weight", "c.bias")


def entries_by_unit(structure, values):
    """Every value that each unit owns, found position by position."""
    owned = [[] for _ in range(structure.num_units)]
    for name, axes in structure.axes.items():
        if name not in values:
            continue
        for dim, axis in enumerate(axes):
            for position, unit in enumerate(axis.tolist() if axis is not None else []):
                owned[unit] += values[name].select(dim, position).flatten().tolist()
    return owned


def only_parameters(weights):
    return {name: weights[name] for name in PARAMETERS}


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_magnitude_equals_the_loop(p, reduction, plan, make_state, weights):
    # the plan's buffer "stat" counts like any tensor whose name isn't that of running statistics: leave it at zero
    weights["stat"].zero_()
    owned = entries_by_unit(plan.structure, only_parameters(weights) | {"stat": weights["stat"]})
    powers = [[abs(value) ** p for value in values] for values in owned]
    expected = [sum(values) / (len(values) if reduction == "mean" else 1) for values in powers]
    scores = Magnitude(p, reduction, normalizer=None).scores(make_state(), 0)
    torch.testing.assert_close(
        scores, torch.tensor([value ** (1 / p) for value in expected]).double(), rtol=1e-6, atol=0
    )


def test_filter_l1_is_the_row_sum_of_the_first_layer(make_state, weights):
    scores = Magnitude(1, "first", normalizer=None).scores(make_state(), 0)
    torch.testing.assert_close(scores[:4], weights["a.weight"].abs().sum(1).double())
    torch.testing.assert_close(scores[4:], weights["b.weight"].abs().sum((1, 2)).double())


def test_normalized_scores_have_mean_one_in_every_group(plan, make_state):
    scores = Magnitude().scores(make_state(), 0)
    assert all(math.isclose(float(scores[group.units].mean()), 1.0) for group in plan.groups)


def test_magnitude_follows_the_rounds(make_state, weights):
    magnitude = Magnitude(1, "first", normalizer=None)
    before = magnitude.scores(make_state(0), 0).clone()
    weights["a.weight"].mul_(3.0)
    assert torch.equal(magnitude.scores(make_state(0), 1), before)  # once a round
    torch.testing.assert_close(magnitude.scores(make_state(1), 0)[:4], 3.0 * before[:4])


def test_prefix_order_keeps_the_leading_units(plan, make_state):
    keep = plan.keep(PrefixOrder().scores(make_state(), 3), 0.5, round_to=1)
    assert keep.tolist() == [True, True, False, False, True, True, True, False, False, False]


def test_random_order_depends_on_seed_round_and_client(make_state):
    order = RandomOrder()
    scores = order.scores(make_state(2, seed=1), 5)
    assert torch.equal(scores, RandomOrder().scores(make_state(2, seed=1), 5))
    for other in (order.scores(make_state(3, seed=1), 5), order.scores(make_state(2, seed=2), 5)):
        assert not torch.equal(scores, other)
    assert not torch.equal(scores, order.scores(make_state(2, seed=1), 6))


def run_round(importance, state, arrivals, alone):
    importance.begin(state, [SimpleNamespace(client=update.client) for _, update in arrivals])
    for coverage, update in arrivals:
        importance.add(coverage, update)
    importance.finish(alone)


def arrival(plan, kept, make_update, client, name="sq_grad", num_steps=1):
    keep = torch.zeros(10, dtype=torch.bool)
    keep[list(kept)] = True
    coverage = ChannelCoverage(plan.structure, keep)
    update = make_update(coverage, client, num_steps=num_steps)
    update.statistics = {name: {key: value.abs() for key, value in update.delta.items()}}
    return coverage, update


def test_client_statistics_by_hand(plan, make_state, make_update, alone):
    """Unit 0 owns 2 + 1 + 2 entries at client 0 (units 4, 5 kept) and 2 + 1 + 1 at client 1 (unit 4 kept)."""
    arrivals = []
    for client, (kept, value, steps) in enumerate([((0, 1, 4, 5), 1.0, 2), ((0, 4), 9.0, 1)]):
        coverage, update = arrival(plan, kept, make_update, client, num_steps=steps)
        update.statistics["sq_grad"] = {key: torch.full_like(v, value) for key, v in update.delta.items()}
        arrivals.append((coverage, update))
    importance = ClientStatistic("sq_grad", decay=0.75, normalizer=None)
    run_round(importance, make_state(), arrivals, alone)
    scores = importance.scores(make_state(1), 0)
    unit_0 = (5 * 1.0 + 4 * 9.0) / (2 * 5 + 1 * 4)
    unit_1 = 5 * 1.0 / (2 * 5)
    assert scores[0].item() == pytest.approx(unit_0)
    assert scores[1].item() == pytest.approx(unit_1)
    assert scores[2].item() == scores[3].item() == pytest.approx((unit_0 + unit_1) / 2)  # nobody has held them
    run_round(importance, make_state(1), arrivals[:1], alone)
    scores = importance.scores(make_state(2), 0)
    assert scores[0].item() == pytest.approx(0.75 * unit_0 + 0.25 * 0.5)
    assert scores[1].item() == pytest.approx(0.5)


def test_client_statistics_equal_the_loop_at_full_coverage(plan, make_state, make_update, alone):
    coverage, update = arrival(plan, range(10), make_update, 0, num_steps=4)
    owned = entries_by_unit(plan.structure, update.statistics["sq_grad"])
    importance = ClientStatistic("sq_grad", normalizer=None)
    run_round(importance, make_state(), [(coverage, update)], alone)
    expected = torch.tensor([sum(values) / len(values) / 4 for values in owned]).double()
    torch.testing.assert_close(importance.scores(make_state(1), 0), expected, rtol=1e-6, atol=0)


def test_masked_entries_do_not_count(plan, make_state, make_update, alone):
    mask = torch.ones(4, 2, dtype=torch.bool)
    mask[0, 1] = False
    coverage = MaskCoverage(plan.structure, {"a.weight": mask})
    update = make_update(coverage)
    update.statistics = {"abs_change": {key: torch.ones_like(value) for key, value in update.delta.items()}}
    update.statistics["abs_change"]["a.weight"].masked_fill_(~mask, 0.0)
    importance = ClientStatistic("abs_change", normalizer=None)
    run_round(importance, make_state(), [(coverage, update)], alone)
    assert importance.scores(make_state(1), 0).tolist() == [1.0] * 10


def test_before_any_statistic_weights_decide(make_state, alone):
    importance = ClientStatistic("taylor")
    expected = Magnitude().scores(make_state(), 0)
    assert torch.equal(importance.scores(make_state(), 0), expected)
    run_round(importance, make_state(), [], alone)  # every update was rejected
    assert torch.equal(importance.scores(make_state(1), 0), expected)


def test_client_statistics_ask_the_clients_for_what_they_need():
    assert ClientStatistic("taylor").statistics == {"taylor"}
    assert Magnitude().statistics == frozenset()


def test_client_statistics_survive_a_restart(plan, make_state, make_update, alone):
    first = ClientStatistic("sq_grad")
    run_round(first, make_state(), [arrival(plan, (0, 1, 4, 5), make_update, 0)], alone)
    second = ClientStatistic("sq_grad")
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.scores(make_state(1), 0), second.scores(make_state(1), 0))
    for importance in (first, second):
        run_round(importance, make_state(1), [arrival(plan, (0, 2, 4, 6), make_update, 1)], alone)
    assert torch.equal(first.scores(make_state(2), 0), second.scores(make_state(2), 0))


def test_processes_add_up_to_the_run_of_one(plan, make_state, make_update, alone, two_processes):
    arrivals = [arrival(plan, kept, make_update, client) for client, kept in enumerate([(0, 4), (1, 4, 5), (0, 1, 5)])]
    single = ClientStatistic("sq_grad")
    run_round(single, make_state(), arrivals, alone)

    def run(rank, reduce):
        importance = ClientStatistic("sq_grad")
        run_round(importance, make_state(), arrivals if rank == 0 else [], reduce)
        return importance.scores(make_state(1), 0)

    for scores in two_processes(run):
        torch.testing.assert_close(scores, single.scores(make_state(1), 0), rtol=1e-12, atol=0)


def test_sums_over_processes_are_taken_where_the_weights_are(make_state, weights):
    """NCCL sums tensors on GPUs only; the device "meta" stands for one."""
    seen = []

    def reduce(tensor):
        seen.append(tensor.device.type)
        raise InterruptedError

    importance = ClientStatistic("sq_grad")
    importance.begin(make_state(weights={name: value.to("meta") for name, value in weights.items()}), [])
    with pytest.raises(InterruptedError):
        importance.finish(reduce)
    assert seen == ["meta"]


def test_statistics_that_overflow_are_left_out(plan, make_state, make_update, alone):
    good, bad = (arrival(plan, range(10), make_update, client) for client in (0, 1))
    bad[1].statistics["sq_grad"]["a.bias"][2] = math.inf
    importance, expected = ClientStatistic("sq_grad"), ClientStatistic("sq_grad")
    run_round(importance, make_state(), [good, bad], alone)
    run_round(expected, make_state(), [good], alone)
    assert torch.equal(importance.scores(make_state(1), 0), expected.scores(make_state(1), 0))


def test_units_are_summed_in_float64(plan):
    """2^24 + 1 is no float32, 2048 + 1 no float16: a unit's sum must not lose its small entries."""
    for dtype, large in ((torch.float32, 2.0**24), (torch.float16, 2048.0)):
        values = {"a.weight": torch.ones(4, 2, dtype=dtype), "b.weight": torch.ones(6, 4, 1, dtype=dtype)}
        values["a.weight"][:, 0] = large
        values["b.weight"][0] = large
        sums = UnitSums(plan.structure)(values.get)
        assert sums[:4].tolist() == [large + 1 + large + 5] * 4  # a row of a, a column of b
        assert sums[4:].tolist() == [4 * large] + [4.0] * 5


def test_absolute_change_by_hand(make_state, weights, alone):
    """Unit 0 moves by 1 in its row of a (2 entries) and by -2 in its bias, unit 4 by 3 in its column of c (3)."""
    change = AbsoluteChange(normalizer=None)
    assert torch.equal(change.scores(make_state(0), 0), Magnitude(normalizer=None).scores(make_state(0), 0))
    run_round(change, make_state(0), [], alone)
    weights["a.weight"][0] += 1.0
    weights["a.bias"][0] -= 2.0
    run_round(change, make_state(1), [], alone)
    weights["c.weight"][:, 0] += 3.0
    expected = torch.tensor([4.0, 0, 0, 0, 9.0, 0, 0, 0, 0, 0]).double()
    torch.testing.assert_close(change.scores(make_state(2), 0), expected, rtol=1e-5, atol=1e-5)
    assert change.statistics == frozenset()  # clients have nothing to do for it


def test_change_since_the_last_pruning(make_state, weights, alone):
    """Prunings at rounds 0 and 2; in every round a.bias of unit 1 moves by 1."""
    change, found = AbsoluteChange(every=2, normalizer=None), []
    for round_idx in range(5):
        found.append(change.scores(make_state(round_idx), 0)[1].item())
        run_round(change, make_state(round_idx), [], alone)
        weights["a.bias"][1] += 1.0
    assert found[1:] == pytest.approx([1.0, 2.0, 1.0, 2.0], abs=1e-5)


def test_while_nothing_moves_the_magnitude_decides(make_state, alone):
    change = AbsoluteChange()
    run_round(change, make_state(0), [], alone)  # every update was rejected
    assert torch.equal(change.scores(make_state(1), 0), Magnitude().scores(make_state(1), 0))


def test_changes_survive_a_restart(make_state, weights, alone):
    first, second = AbsoluteChange(), AbsoluteChange()
    run_round(first, make_state(0), [], alone)
    saved = first.state_dict()
    assert set(saved["reference"]) == {"a.weight", "a.bias", "stat", "b.weight", "c.weight"}
    weights["b.weight"][2] *= 2.0
    assert not torch.equal(saved["reference"]["b.weight"], weights["b.weight"])  # a copy of its own
    second.load_state_dict(saved)
    for importance in (first, second):
        run_round(importance, make_state(1), [], alone)  # the reference stays
    assert torch.equal(first.scores(make_state(2), 0), second.scores(make_state(2), 0))
    assert first.scores(make_state(2), 0)[6] > 1.0


def test_wrong_options_are_refused():
    with pytest.raises(ConfigError, match="every=0 is no number"):
        AbsoluteChange(every=0)
    with pytest.raises(ConfigError, match="p=3 is not a norm"):
        Magnitude(p=3)
    with pytest.raises(ConfigError, match="reduction='max' is unknown"):
        Magnitude(reduction="max")
    with pytest.raises(ConfigError, match="name='hessian' is no statistic"):
        ClientStatistic("hessian")
    with pytest.raises(ConfigError, match=r"decay=1.0 is outside \[0, 1\)"):
        ClientStatistic(decay=1.0)
