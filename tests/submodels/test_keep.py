"""Counts by hand, and what must hold for every choice of units."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedlight.errors import ConfigError, DataError
from fedlight.submodels.keep import choose, kept_counts
from fedlight.submodels.structure import Group


def make_groups(*sizes: int, partitions: Sequence[int] | None = None, kind: str = "channels") -> list[Group]:
    starts = np.cumsum([0, *sizes])
    parts = partitions or [1] * len(sizes)
    return [
        Group(f"layer{i}", kind, int(starts[i]), size, parts[i], ((f"layer{i}.weight", 0),))
        for i, size in enumerate(sizes)
    ]


def counts_of(keep: Tensor, groups: Sequence[Group]) -> list[int]:
    return [int(keep[group.units].sum()) for group in groups]


@pytest.mark.parametrize(
    ("size", "ratio", "round_to", "expected"),
    [
        (64, 0.5, 8, 32),
        (64, 0.0, 8, 64),
        (60, 0.0, 8, 60),
        (10, 0.9, 1, 1),  # 10 * (1 - 0.9) is 0.9999999999999998
        (100, 0.29, 1, 71),  # 100 * (1 - 0.29) is 71 only after rounding
        (40, 0.5, 8, 16),  # 20 / 8 = 2.5, to the even 2
        (24, 0.5, 8, 16),  # 12 / 8 = 1.5, to the even 2
        (16, 0.75, 8, 4),  # would round to 0: the exact count instead
        (16, 0.25, 8, 12),  # would round to all 16: the exact count instead
        (20, 0.1, 8, 16),
        (22, 0.05, 8, 21),  # 20.9 would round to 24, more than there are
        (4, 0.5, 8, 2),  # smaller than round_to
        (2, 0.25, 8, 1),  # 1.5: halves go down, so that the group isn't left full
        (3, 0.9, 8, 1),  # 0.3 would be none
        (1, 0.9, 8, 1),
        (64, 0.99, 8, 1),
        (64, 0.001, 8, 64),  # less than half a unit to remove
    ],
)
def test_counts_by_hand(size: int, ratio: float, round_to: int, expected: int) -> None:
    assert kept_counts(make_groups(size), ratio, round_to).tolist() == [expected]


def test_min_units_is_a_floor_capped_at_the_size() -> None:
    assert kept_counts(make_groups(64, 3, 16), 0.9, 8, min_units=5).tolist() == [8, 3, 5]


@pytest.mark.parametrize(
    ("size", "partitions", "ratio", "round_to", "expected"),
    [
        (12, 3, 0.5, 1, 6),
        (12, 3, 0.5, 4, 9 - 3),  # lcm(4, 3) = 12 gives none or all: nearest multiple of 3
        (48, 3, 0.5, 8, 24),  # lcm(8, 3) = 24
        (12, 4, 0.9, 1, 4),  # one for each partition at least
        (4, 2, 0.25, 1, 2),  # 3 is between 2 and all 4
    ],
)
def test_partitions_keep_equally_many(size: int, partitions: int, ratio: float, round_to: int, expected: int) -> None:
    groups = make_groups(size, partitions=[partitions])
    keep = choose(groups, torch.arange(float(size)), ratio, round_to=round_to)
    assert int(keep.sum()) == expected
    assert keep.view(partitions, -1).sum(1).tolist() == [expected // partitions] * partitions


def test_min_units_counts_over_partitions() -> None:
    assert kept_counts(make_groups(12, partitions=[4]), 0.9, 1, min_units=5).tolist() == [8]


def test_heads_are_not_rounded_since_each_is_many_channels() -> None:
    assert kept_counts(make_groups(12, kind="heads"), 0.25, 8).tolist() == [9]
    assert kept_counts(make_groups(12), 0.25, 8).tolist() == [8]


def test_layer_scope_keeps_the_best_of_each_group() -> None:
    groups = make_groups(4, 4)
    scores = torch.tensor([0.1, 0.4, 0.3, 0.2, 10.0, 30.0, 20.0, 40.0])
    assert choose(groups, scores, 0.5, round_to=1).nonzero().view(-1).tolist() == [1, 2, 5, 7]


def test_global_scope_compares_groups_and_leaves_a_floor() -> None:
    groups = make_groups(4, 4)
    scores = torch.tensor([0.1, 0.4, 0.3, 0.2, 10.0, 30.0, 20.0, 40.0])
    assert choose(groups, scores, 0.5, scope="global", round_to=1).nonzero().view(-1).tolist() == [1, 5, 6, 7]
    keep = choose(groups, scores, 0.5, scope="global", round_to=1, min_units=2)
    assert keep.nonzero().view(-1).tolist() == [1, 2, 5, 7]


def test_global_scope_rounds_each_group_after_the_threshold() -> None:
    groups = make_groups(16, 16)
    scores = torch.cat([torch.arange(16.0), torch.arange(16.0) + 5.5])  # best 16: 5 and 11; best 24: 9 and 15
    assert counts_of(choose(groups, scores, 0.5, scope="global", round_to=1), groups) == [5, 11]
    assert counts_of(choose(groups, scores, 0.5, scope="global", round_to=8), groups) == [8, 8]
    assert counts_of(choose(groups, scores, 0.25, scope="global", round_to=8), groups) == [8, 15]  # 16 would be all


def test_one_ratio_per_group() -> None:
    groups = make_groups(8, 8, 8)
    assert kept_counts(groups, [0.0, 0.5, 0.75], 1).tolist() == [8, 4, 2]
    keep = choose(groups, torch.rand(24), np.array([0.0, 0.5, 0.75]), round_to=1)
    assert counts_of(keep, groups) == [8, 4, 2]


def test_ties_go_to_the_lower_index() -> None:
    keep = choose(make_groups(6), torch.tensor([1.0, 2.0, 1.0, 2.0, 2.0, 1.0]), 0.5, round_to=1)
    assert keep.nonzero().view(-1).tolist() == [1, 3, 4]
    for scope in ("layer", "global"):
        keep = choose(make_groups(6), torch.zeros(6), 0.5, scope=scope, round_to=1)
        assert keep.nonzero().view(-1).tolist() == [0, 1, 2]


def test_infinite_scores_force_units_in_and_out() -> None:
    keep = choose(make_groups(4), torch.tensor([-torch.inf, 0.0, torch.inf, 1.0]), 0.75, round_to=1)
    assert keep.tolist() == [False, False, True, False]


def test_a_model_without_groups_keeps_nothing_to_choose() -> None:
    assert choose([], torch.zeros(0), 0.5).shape == (0,)
    assert choose([], torch.zeros(0), 0.5, scope="global").shape == (0,)


@pytest.mark.parametrize("ratio", [1.0, -0.1, 1.5, float("nan"), [0.5, 1.0], [0.5], [[0.5, 0.5]]])
def test_ratio_outside_its_range_is_refused(ratio: float) -> None:
    with pytest.raises(ConfigError, match="ratio"):
        choose(make_groups(4, 4), torch.zeros(8), ratio)


@pytest.mark.parametrize("ratio", [1.0, -0.1, float("nan"), [0.5, 0.5]])
def test_global_ratio_outside_its_range_is_refused(ratio: float) -> None:
    with pytest.raises(ConfigError):
        choose(make_groups(4, 4), torch.zeros(8), ratio, scope="global")


@pytest.mark.parametrize("settings_", [{"round_to": 0}, {"min_units": 0}, {"scope": "everywhere"}])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_settings_out_of_range_are_refused(settings_: dict, scope: str) -> None:
    with pytest.raises(ConfigError):
        choose(make_groups(4), torch.zeros(4), 0.5, **{"scope": scope, **settings_})


def test_scores_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="8 units"):
        choose(make_groups(4, 4), torch.zeros(7), 0.5)
    with pytest.raises(DataError, match=r"unit 5.*'layer1'.*NaN"):
        choose(make_groups(4, 4), torch.tensor([0.0, 0, 0, 0, 0, torch.nan, 0, 0]), 0.5)


group_lists = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 30), st.sampled_from(["channels", "heads"])), min_size=1, max_size=4
).map(
    lambda drawn: [
        Group(f"g{i}", kind, sum(p * q for p, q, _ in drawn[:i]), p * q, p, ()) for i, (p, q, kind) in enumerate(drawn)
    ]
)
ratios = st.floats(0.0, 1.0, exclude_max=True)
scopes = st.sampled_from(["layer", "global"])


@settings(max_examples=150, deadline=None)
@given(
    groups=group_lists,
    seed=st.integers(0, 99),
    low=ratios,
    high=ratios,
    scope=scopes,
    round_to=st.sampled_from([1, 2, 3, 8, 16]),
    min_units=st.integers(1, 4),
)
def test_choices_are_exact_nested_and_never_empty(
    groups: list[Group], seed: int, low: float, high: float, scope: str, round_to: int, min_units: int
) -> None:
    low, high = sorted([low, high])
    num_units = sum(group.size for group in groups)
    scores = torch.randint(0, 9, (num_units,), generator=torch.Generator().manual_seed(seed)).float()  # many ties
    more = choose(groups, scores, low, scope=scope, round_to=round_to, min_units=min_units)
    less = choose(groups, scores, high, scope=scope, round_to=round_to, min_units=min_units)
    assert bool((more | ~less).all()), "a higher ratio must keep a subset"
    for ratio, keep in ((low, more), (high, less)):
        for group, count in zip(groups, counts_of(keep, groups), strict=True):
            kept, values = keep[group.units], scores[group.units]
            assert min(group.size, min_units) <= count <= group.size
            parts = kept.view(group.partitions, -1)
            assert len(set(parts.sum(1).tolist())) == 1
            for part, part_values in zip(parts, values.view(group.partitions, -1), strict=True):
                if part.any() and not part.all():
                    worst, best = part_values[part].min(), part_values[~part].max()
                    assert worst >= best
                    if worst == best:
                        tied = (part_values == best).nonzero().view(-1)
                        assert part[tied].tolist() == sorted(part[tied].tolist(), reverse=True)
        if scope == "layer":
            assert counts_of(keep, groups) == kept_counts(groups, ratio, round_to, min_units).tolist()
        if ratio == 0.0:
            assert bool(keep.all())


@settings(max_examples=100, deadline=None)
@given(size=st.integers(2, 200), ratio=ratios, round_to=st.sampled_from([1, 4, 8]))
def test_counts_stay_within_half_a_step_of_the_target(size: int, ratio: float, round_to: int) -> None:
    (count,) = kept_counts(make_groups(size), ratio, round_to)
    target = size * (1 - ratio)
    assert count == 1 or abs(count - target) <= max(round_to, 1) / 2 + 1e-6
    if 0.5 <= size - target <= size - 0.5 and size >= 2:
        assert 0 < count < size
    if count not in (1, size) and round_to < count <= size - round_to:
        assert count % round_to == 0 or target < round_to / 2 or target > size - round_to


@settings(max_examples=50, deadline=None)
@given(sizes=st.lists(st.integers(1, 20), min_size=1, max_size=4), ratio=ratios, seed=st.integers(0, 99))
def test_global_total_is_exact_without_rounding(sizes: list[int], ratio: float, seed: int) -> None:
    groups = make_groups(*sizes)
    scores = torch.rand(sum(sizes), generator=torch.Generator().manual_seed(seed))
    keep = choose(groups, scores, ratio, scope="global", round_to=1)
    assert abs(int(keep.sum()) - max(len(sizes), sum(sizes) * (1 - ratio))) <= 0.5 + 1e-6
