"""Importance beside magnitude and client statistics: of single weights, of norm layers, rolling, mixed."""

import math
from types import SimpleNamespace

import pytest
import torch

from fedlight.errors import ConfigError
from fedlight.parts.importance import (
    AbsoluteChange,
    AccumulatedSquares,
    ClientStatistic,
    EntryStatistic,
    Magnitude,
    MixedImportance,
    NormScale,
    PrefixOrder,
    RandomOrder,
    RollingOrder,
)
from fedlight.parts.importance.criterion import of_criterion
from fedlight.parts.importance.units import Reducer
from fedlight.submodels import ChannelCoverage, MaskCoverage
from fedlight.submodels.structure import Group, Structure


def run_round(importance, state, arrivals, alone):
    importance.begin(state, [SimpleNamespace(client=update.client, coverage=coverage) for coverage, update in arrivals])
    for coverage, update in arrivals:
        importance.add(coverage, update)
    importance.finish(alone)


def channels(plan, kept):
    keep = torch.zeros(10, dtype=torch.bool)
    keep[list(kept)] = True
    return ChannelCoverage(plan.structure, keep)


def arrival(coverage, make_update, client, value, name="taylor", num_steps=1):
    update = make_update(coverage, client, num_steps=num_steps)
    update.statistics = {name: {key: torch.full_like(delta, value) for key, delta in update.delta.items()}}
    return coverage, update


@pytest.mark.parametrize("reduction", ["sum", "mean", "first"])
def test_reductions_of_a_statistic(reduction, plan, make_state, make_update, alone):
    """A constant 3: unit 0 owns 2 + 1 + 1 + 6 entries, 2 in its first layer; unit 4 owns 4 + 3, 4 in its first."""
    importance = ClientStatistic("sq_grad", normalizer=None, reduction=reduction)
    run_round(importance, make_state(), [arrival(channels(plan, range(10)), make_update, 0, 3.0, "sq_grad")], alone)
    scores = importance.scores(make_state(1), 0)
    expected = {"sum": (30.0, 21.0), "mean": (3.0, 3.0), "first": (6.0, 12.0)}[reduction]
    assert (scores[0].item(), scores[4].item()) == pytest.approx(expected)


def test_normalisers_by_hand(plan):
    scores = torch.tensor([1.0, 2.0, 3.0, 2.0, 0, 0, 0, 0, 0, 0], dtype=torch.float64)
    for by, divisor in (("mean", 2.0), ("max", 3.0), ("sum", 8.0), (None, 1.0)):
        found = Reducer("sum", by).normalize(scores, plan.groups)
        torch.testing.assert_close(found, scores / divisor)


def test_scores_of_single_weights(make_state, weights, alone):
    state = make_state()
    assert torch.equal(Magnitude().entries(state, 0)["c.weight"], weights["c.weight"].abs())
    change = AbsoluteChange()
    assert torch.equal(change.entries(state, 0)["c.weight"], weights["c.weight"].abs())  # nothing has moved yet
    run_round(change, state, [], alone)
    weights["c.weight"][0] += 2.0
    found = change.entries(make_state(1), 0)["c.weight"]
    torch.testing.assert_close(found[0], torch.full((6,), 2.0))
    assert found[1:].abs().max() == 0
    drawn = RandomOrder().entries(state, 3)
    assert drawn.keys() == {"a.weight", "b.weight", "c.weight"}
    assert torch.equal(drawn["b.weight"], RandomOrder().entries(state, 3)["b.weight"])
    assert not torch.equal(drawn["b.weight"], RandomOrder().entries(state, 4)["b.weight"])
    with pytest.raises(ConfigError, match="PrefixOrder scores units"):
        PrefixOrder().entries(state, 0)


def test_entry_statistics_by_hand(plan, make_state, make_update, alone):
    """Client 0 holds everything (value 4 over 2 steps), client 1 units 0 and 4 (value 8 in one): (4 + 8) / (2 + 1)."""
    importance = EntryStatistic("sq_grad", decay=0.75, normalizer=None, reduction="mean")
    full, part = channels(plan, range(10)), channels(plan, (0, 4))
    run_round(
        importance,
        make_state(),
        [
            arrival(full, make_update, 0, 4.0, "sq_grad", num_steps=2),
            arrival(part, make_update, 1, 8.0, "sq_grad"),
        ],
        alone,
    )
    found = importance.entries(make_state(1), 0)["b.weight"].squeeze(2)
    assert found[0, 0].item() == pytest.approx(4.0)
    assert found[1:].unique().tolist() == found[0, 1:].unique().tolist() == pytest.approx([2.0])
    run_round(importance, make_state(1), [arrival(part, make_update, 1, 0.0, "sq_grad")], alone)
    again = importance.entries(make_state(2), 0)["b.weight"].squeeze(2)
    assert (again[0, 0].item(), again[1, 1].item()) == pytest.approx((3.0, 2.0))
    unit_4 = (3.0 + 3 * 2.0 + 3 * 3.0) / 7  # a row of b, of which unit 0's entry was seen again, and a column of c
    assert importance.scores(make_state(2), 0)[4].item() == pytest.approx(unit_4)


def test_gradients_count_where_a_mask_is_and_others_do_not(plan, make_state, make_update, alone):
    mask = torch.zeros(3, 6, dtype=torch.bool)
    mask[0] = True
    coverage = MaskCoverage(plan.structure, {"c.weight": mask})
    for name, outside in (("abs_grad", 5.0), ("taylor", 1.0)):
        importance = EntryStatistic(name, decay=0.0)
        run_round(importance, make_state(), [arrival(channels(plan, range(10)), make_update, 0, 1.0, name)], alone)
        run_round(importance, make_state(1), [arrival(coverage, make_update, 0, 5.0, name)], alone)
        found = importance.entries(make_state(2), 0)["c.weight"]
        assert found[0].unique().tolist() == [5.0]
        assert found[1:].unique().tolist() == [outside]


def test_what_nobody_has_measured_is_average(plan, make_state, make_update, alone, weights):
    importance = EntryStatistic("taylor")
    assert torch.equal(importance.entries(make_state(), 0)["a.weight"], weights["a.weight"].abs())
    run_round(importance, make_state(), [arrival(channels(plan, (0, 4)), make_update, 0, 2.0)], alone)
    assert importance.entries(make_state(1), 0)["b.weight"].unique().tolist() == [2.0]
    again = EntryStatistic("taylor")
    again.load_state_dict(importance.state_dict())
    assert torch.equal(again.scores(make_state(1), 0), importance.scores(make_state(1), 0))


def test_accumulated_squares_by_hand(plan, make_state, make_update, alone):
    """Clients of 10 and 11 examples with summed gradients 2 and 3, then 1 from the first: piled up until used."""
    importance, full = AccumulatedSquares(), channels(plan, range(10))
    arrivals = [arrival(full, make_update, client, 2.0 + client, "sum_grad") for client in (0, 1)]
    run_round(importance, make_state(0), arrivals, alone)
    run_round(importance, make_state(1), [arrival(full, make_update, 0, 1.0, "sum_grad")], alone)
    mean = (10 * 4 + 11 * 9 + 10 * 1) / 31
    again = AccumulatedSquares()
    again.load_state_dict(importance.state_dict())
    for one in (importance, again):
        assert one.entries(make_state(2), 0)["c.bias"].unique().tolist() == pytest.approx([mean])
        assert one.scores(make_state(2), 0)[0].item() == pytest.approx(9 * mean)
        run_round(one, make_state(2), [arrival(channels(plan, (0, 4)), make_update, 1, 5.0, "sum_grad")], alone)
        found = one.entries(make_state(3), 0)["b.weight"].squeeze(2)
        assert found[0, 0].item() == pytest.approx(25.0)  # anew
        assert found[1, 1].item() == pytest.approx(mean)  # nobody has measured it since


def test_norm_scales_by_hand(make_state):
    """Four units behind a BatchNorm, two in a group without one."""
    units, rest = torch.arange(4), torch.arange(4, 6)
    structure = Structure(
        groups=(
            Group("a", "channels", 0, 4, 1, (("a.weight", 0), ("n.weight", 0))),
            Group("b", "hidden", 4, 2, 1, (("b.weight", 0),)),
        ),
        axes={
            "a.weight": (units, None), "n.weight": (units,), "n.bias": (units,), "act.weight": (units,),
            "b.weight": (rest, units),
        },
        shapes={"a.weight": (4, 1), "n.weight": (4,), "n.bias": (4,), "act.weight": (4,), "b.weight": (2, 4)},
    )  # fmt: skip
    values = {name: torch.ones(shape) for name, shape in structure.shapes.items()}
    values["n.weight"] = torch.tensor([0.5, -2.0, 1.0, 0.5])
    values["act.weight"] = torch.full((4,), 9.0)  # of a PReLU: no scale
    values["b.weight"][1] = 3.0
    plan = SimpleNamespace(structure=structure, groups=structure.groups)
    scores = NormScale().scores(make_state(plan=plan, weights=values), 0)
    assert scores.tolist() == pytest.approx([0.5, 2.0, 1.0, 0.5, 0.5, 1.5])


def test_the_window_rolls(plan, make_state):
    """Groups of 4 and 6 units, half kept: in round 3 the windows start at 3 of both, and wrap."""
    keep = plan.keep(RollingOrder().scores(make_state(3), 0), 0.5, round_to=1)
    assert torch.nonzero(keep).flatten().tolist() == [0, 3, 7, 8, 9]
    torch.testing.assert_close(RollingOrder().scores(make_state(0), 0), PrefixOrder().scores(make_state(0), 0))
    assert torch.equal(RollingOrder(step=2).scores(make_state(2), 0), RollingOrder().scores(make_state(4), 0))
    visits = sum(plan.keep(RollingOrder().scores(make_state(t), 0), 0.5, round_to=1).long() for t in range(12))
    assert visits.tolist() == [6] * 10  # every unit equally often


def own_statistics(plan, make_update, client, values):
    """Every entry of unit u holds values[u]; a weight between two groups holds the smaller unit's value."""
    coverage = channels(plan, values)
    update = make_update(coverage, client)
    per_unit = torch.zeros(10)
    per_unit[list(values)] = torch.tensor(list(values.values()))
    a, b = per_unit[:4][coverage.keep[:4]], per_unit[4:][coverage.keep[4:]]
    update.statistics = {
        "taylor": {
            "a.weight": a[:, None].expand(-1, 2), "a.bias": a, "b.weight": a[None, :, None].expand(len(b), -1, 1),
            "c.weight": b[None].expand(3, -1),
        }
    }  # fmt: skip
    return coverage, update


def test_mixed_scores_by_hand(plan, make_state, make_update, alone):
    """Group a: client 5 held units 0 and 1, whose own means are 3 and 1; the global scores are 1, 3, 2, 2."""

    class Given(Magnitude.__mro__[1]):
        def scores(self, state, client):
            return torch.tensor([1.0, 3.0, 2.0, 2.0, 1, 1, 1, 1, 1, 1], dtype=torch.float64)

    mixed = MixedImportance(Given(), weight=0.25)
    assert mixed.personal
    assert torch.equal(mixed.scores(make_state(), 5), Given().scores(None, 5))
    run_round(mixed, make_state(), [own_statistics(plan, make_update, 5, {0: 3.0, 1: 1.0, 4: 2.0})], alone)
    scores = mixed.scores(make_state(1), 5)
    own = (3.0, 1.0)  # times 2 / 2: the mean of both scores over these units is 2
    assert scores[:4].tolist() == pytest.approx([0.75 * 1 + 0.25 * own[0], 0.75 * 3 + 0.25 * own[1], 2.0, 2.0])
    assert scores[4].item() == pytest.approx(1.0)  # the only one of its group: on the global scale by itself
    assert torch.equal(mixed.scores(make_state(1), 6), Given().scores(None, 6))
    run_round(mixed, make_state(1), [own_statistics(plan, make_update, 5, {0: 1.0, 4: 2.0})], alone)
    own = (2.0 * 2.0 / 1.5, 1.0 * 2.0 / 1.5)  # smoothed by ½ where it was held, else as it was
    expected = [0.75 * 1 + 0.25 * own[0], 0.75 * 3 + 0.25 * own[1]]
    assert mixed.scores(make_state(2), 5)[:2].tolist() == pytest.approx(expected)
    again = MixedImportance(Given(), weight=0.25)
    again.load_state_dict(mixed.state_dict())
    assert torch.equal(again.scores(make_state(2), 5), mixed.scores(make_state(2), 5))


def test_own_data_decide_which_units(plan, make_state, make_update, alone):
    """Two clients of one capability get as many units, and others."""
    mixed, ones = MixedImportance(weight=1.0), dict.fromkeys(range(10), 1.0)
    arrivals = [
        own_statistics(plan, make_update, 0, ones | {0: 9.0, 1: 8.0}),
        own_statistics(plan, make_update, 1, ones | {2: 9.0, 3: 8.0}),
    ]
    run_round(mixed, make_state(), arrivals, alone)
    keeps = [plan.keep(mixed.scores(make_state(1), client), 0.5, round_to=1) for client in (0, 1)]
    assert [torch.nonzero(keep[:4]).flatten().tolist() for keep in keeps] == [[0, 1], [2, 3]]


def test_mixed_weights_follow_their_units(plan, make_state, make_update, alone, weights):
    mixed = MixedImportance(weight=0.5)
    run_round(mixed, make_state(), [own_statistics(plan, make_update, 0, dict.fromkeys(range(10), 1.0))], alone)
    state = make_state(1)
    factor = mixed.scores(state, 0) / Magnitude().scores(state, 0)
    expected = weights["b.weight"].abs() * (factor[4:, None, None] * factor[None, :4, None]).float()
    torch.testing.assert_close(mixed.entries(state, 0)["b.weight"], expected)
    assert torch.equal(mixed.entries(state, 7)["b.weight"], weights["b.weight"].abs())


def test_the_mix_is_annealed():
    linear = MixedImportance(weight=0.8, end_weight=0.2, anneal_rounds=6, annealing="linear")
    assert [linear.share(t) for t in (0, 3, 6, 9)] == pytest.approx([0.8, 0.5, 0.2, 0.2])
    cosine = MixedImportance(weight=0.0, end_weight=1.0, anneal_rounds=3)
    assert [cosine.share(t) for t in range(4)] == pytest.approx([0.0, 0.25, 0.75, 1.0])
    assert MixedImportance(weight=0.3).share(99) == 0.3


@pytest.mark.parametrize("kind", [MixedImportance, EntryStatistic, AccumulatedSquares])
def test_two_processes_are_one(kind, plan, make_state, make_update, alone, two_processes):
    name = "sum_grad" if kind is AccumulatedSquares else "taylor"
    arrivals = [
        arrival(channels(plan, kept), make_update, client, 1.0 + client, name)
        for client, kept in enumerate([range(10), (0, 4), (1, 2, 5), (3, 9)])
    ]
    jobs = [SimpleNamespace(client=update.client, coverage=coverage) for coverage, update in arrivals]
    single = kind()
    run_round(single, make_state(), arrivals, alone)

    def body(rank, reduce):
        shared = kind()
        shared.begin(make_state(), jobs)
        for coverage, update in arrivals[rank::2]:
            shared.add(coverage, update)
        shared.finish(reduce)
        return shared

    for shared in two_processes(body):
        for client in range(5):
            torch.testing.assert_close(shared.scores(make_state(1), client), single.scores(make_state(1), client))


def test_criteria_by_name():
    assert isinstance(of_criterion("taylor", 1), ClientStatistic)
    assert isinstance(of_criterion("taylor", 1, by_entry=True), EntryStatistic)
    assert of_criterion("recent_change", 4).every == 4
    assert of_criterion("abs_change", 4).every is None
    with pytest.raises(ConfigError, match="criterion='hessian' is unknown"):
        of_criterion("hessian", 1)


def test_bad_constants_are_refused():
    for make, message in (
        (lambda: MixedImportance(weight=1.5), "weight=1.5"),
        (lambda: MixedImportance(end_weight=math.nan, anneal_rounds=1), "end_weight=nan"),
        (lambda: MixedImportance(end_weight=0.1), "give both"),
        (lambda: MixedImportance(own="hessian"), "own='hessian'"),
        (lambda: MixedImportance(annealing="steps"), "annealing='steps'"),
        (lambda: RollingOrder(step=-1), "step=-1"),
        (lambda: EntryStatistic(decay=1.0), r"decay=1.0"),
        (lambda: ClientStatistic(reduction="max"), "reduction='max'"),
        (lambda: Magnitude(normalizer="l2"), "normalizer='l2'"),
    ):
        with pytest.raises(ConfigError, match=message):
            make()
