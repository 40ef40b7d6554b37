"""When maps are revised, and RigL's rule for what goes and what comes."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedlight.core.slots import Scores
from fedlight.errors import ConfigError
from fedlight.parts.extraction import Channels, Weights
from fedlight.parts.extraction.pruning_schedule import PruningSchedule, shielded
from fedlight.parts.importance import EntryStatistic, Magnitude, Regrowth


def test_cosine_of_rigl():
    """The computed check of methods_sparse.md §11.1: α = .5, T = 100."""
    schedule = PruningSchedule(1, 100, "cosine", initial=0.5)
    expected = {0: 0.5, 10: 0.4878, 25: 0.4268, 50: 0.25, 75: 0.0732, 100: 0.0, 101: 0.0}
    for round_idx, share in expected.items():
        assert schedule.share(round_idx) == pytest.approx(share, abs=5e-5)


def test_only_pruning_rounds_exchange():
    schedule = PruningSchedule(3, 7, "all")
    assert [schedule.share(round_idx) for round_idx in range(11)] == [1, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0]


def largest(values, count):
    return set(torch.argsort(values, descending=True, stable=True)[:count].tolist())


@given(seed=st.integers(0, 999), share=st.floats(0, 1), kept=st.integers(1, 20))
def test_rigl_rule(seed, share, kept):
    """n - ⌊n · share⌋ of the kept stay by their scores, all others compete by growth."""
    generator = torch.Generator().manual_seed(seed)
    scores, growth = torch.rand(20, generator=generator), torch.rand(20, generator=generator)
    old = torch.zeros(20, dtype=torch.bool)
    old[torch.randperm(20, generator=generator)[:kept]] = True
    new = largest(shielded(scores, old, share, growth), kept)
    num_dropped = math.floor(round(kept * share, 6))
    safe = largest(torch.where(old, scores, -1.0), kept - num_dropped)
    others = torch.where(torch.tensor([index in safe for index in range(20)]), -1.0, growth)
    assert new == safe | largest(others, num_dropped)


def test_ranks_keep_tiny_differences():
    scores = torch.tensor([1e30, 1e-30, 2e-30, 3e-30], dtype=torch.float64)
    old = torch.tensor([False, True, True, True])
    assert largest(shielded(scores, old, 0.0), 2) == {2, 3}


def entries(values):
    return Scores(lambda: None, lambda: {name: value.clone() for name, value in values.items()})


def test_masks_hold_between_prunings_and_follow_a_new_ratio(make_state, weights):
    sizes = {name: weights[name].abs() for name in ("a.weight", "b.weight", "c.weight")}
    down = {name: -value for name, value in sizes.items()}
    extraction = Weights(every=2)
    first = extraction.extract(make_state(0), 0, 0.5, entries(sizes)).masks
    second = extraction.extract(make_state(1), 0, 0.5, entries(down)).masks
    assert all(torch.equal(first[name], second[name]) for name in first)
    smaller = extraction.extract(make_state(1), 0, 0.75, entries(down)).masks
    for name, mask in smaller.items():
        assert not bool((mask & ~first[name]).any())
        assert -down[name][mask].max() <= -down[name][first[name] & ~mask].min()  # the best by the new scores
    third = extraction.extract(make_state(2), 0, 0.75, entries(sizes)).masks
    assert all(int(third[name].sum()) == int(smaller[name].sum()) for name in third)
    assert not any(torch.equal(third[name], smaller[name]) for name in third)


def test_masks_settle_and_grow_by_another_score(make_state, weights):
    """At t = 2 of 4 half of each tensor's kept weights may go; what comes is what growth says."""
    sizes = {name: weights[name].abs() for name in ("a.weight", "b.weight", "c.weight")}
    growth = {
        name: torch.rand(value.shape, generator=torch.Generator().manual_seed(9)) for name, value in sizes.items()
    }
    extraction = Weights(until=4, exchange="cosine")
    old = extraction.extract(make_state(0), 0, 0.5, entries(sizes)).masks
    scores = Scores(lambda: None, lambda: sizes, growth=entries(growth))
    new = extraction.extract(make_state(2), 0, 0.5, scores).masks
    for name in sizes:
        flat, grown = sizes[name].flatten(), growth[name].flatten()
        kept = int(old[name].sum())
        safe = largest(torch.where(old[name].flatten(), flat, -1.0), kept - kept // 2)
        others = torch.where(torch.tensor([index in safe for index in range(len(flat))]), -1.0, grown)
        expected = safe | largest(others, kept // 2)
        assert set(torch.nonzero(new[name].flatten()).flatten().tolist()) == expected
    settled = extraction.extract(make_state(5), 0, 0.5, entries(growth)).masks
    assert all(torch.equal(settled[name], new[name]) for name in new)


def test_global_exchange_lets_all_weights_compete(make_state, weights):
    sizes = {name: weights[name].abs() for name in ("a.weight", "b.weight", "c.weight")}
    extraction = Weights("global", until=4, exchange="cosine")
    old = extraction.extract(make_state(0), 0, 0.5, entries(sizes)).masks
    new = extraction.extract(make_state(2), 0, 0.5, entries({name: -value for name, value in sizes.items()})).masks
    went = sum(int((old[name] & ~new[name]).sum()) for name in old)
    assert sum(int(mask.sum()) for mask in new.values()) == 25
    assert went == 12  # ⌊25 / 2⌋, all of which the opposite scores would see go


def test_channels_grow_by_another_score(make_state):
    channels = Channels(round_to=1, until=4, exchange="cosine")
    up, flat = torch.arange(10.0), torch.zeros(10)
    channels.extract(make_state(0), 0, 0.5, Scores(lambda: up))
    grow = flat.clone()
    grow[[0, 5]] = 1.0
    keep = channels.extract(make_state(2), 0, 0.5, Scores(lambda: up, growth=Scores(lambda: grow))).keep
    assert torch.nonzero(keep).flatten().tolist() == [0, 3, 5, 8, 9]  # 2 and 7 go, one of 2 and of 3


def test_regrowth_is_two_importances(make_state, weights):
    regrowth = Regrowth()
    assert regrowth.statistics == {"abs_grad"}
    state = make_state()
    scores = Scores.of(regrowth, state, 0)
    assert torch.equal(scores.entries()["a.weight"], weights["a.weight"].abs())
    assert torch.equal(scores.units(), Magnitude().scores(state, 0))
    assert isinstance(regrowth.growth, EntryStatistic)
    again = Regrowth()
    again.load_state_dict(regrowth.state_dict())


def test_personal_scores_give_personal_masks(make_state):
    state, extraction = make_state(), Weights()

    def random_of(client):
        generator = torch.Generator().manual_seed(client)
        drawn = {name: torch.rand(value.shape, generator=generator) for name, value in state.weights.items()}
        return Scores(lambda: None, lambda: drawn, personal=True)

    one, other = (extraction.extract(state, client, 0.5, random_of(client)).masks for client in (0, 1))
    assert not torch.equal(one["b.weight"], other["b.weight"])


def test_sparse_kernels_cost_the_kept_weights_only(make_state, plan):
    state = make_state()
    for kernels, macs in (("dense", 50), ("sparse", 25)):
        extraction = Weights(kernels=kernels)
        coverage = extraction.extract(state, 0, 0.5, Scores.of(Magnitude(), state, 0))
        assert extraction.cost_of(plan, coverage).macs == extraction.cost(plan, 0.5).macs == macs


def test_tensors_compare_after_normalising(make_state):
    values = {"a.weight": torch.full((4, 2), 1e6), "b.weight": torch.ones(6, 4, 1), "c.weight": torch.ones(3, 6)}
    values["a.weight"][0, 0] = values["b.weight"][0] = values["c.weight"][0] = 1e-9
    masks = Weights("global", normalizer="mean").extract(make_state(), 0, 0.22, entries(values)).masks
    assert {name: int((~mask).sum()) for name, mask in masks.items()} == {"a.weight": 1, "b.weight": 4, "c.weight": 6}


def test_bad_constants_are_refused():
    with pytest.raises(ConfigError, match="every=0"):
        Weights(every=0)
    with pytest.raises(ConfigError, match="until=-1"):
        Weights(until=-1)
    with pytest.raises(ConfigError, match=r"exchange_share=0\.0"):
        Weights(until=3, exchange="cosine", exchange_share=0.0)
    with pytest.raises(ConfigError, match="kernels='fast'"):
        Weights(kernels="fast")
    with pytest.raises(ConfigError, match="normalizer='max'"):
        Weights(normalizer="max")
    with pytest.raises(ConfigError, match="exchange='cosine'"):
        Weights(exchange="cosine")
