"""PruneFL's search for a size: greedy on gain per second, protection, stages, learned seconds."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedlight.core.slots import Scores
from fedlight.core.types import Timing, Work
from fedlight.errors import ConfigError
from fedlight.parts.aggregation.shared_map_mean import SharedMapMean
from fedlight.parts.extraction import Channels, SizeSearch
from fedlight.parts.extraction.greedy import greedy_set, protect, protected_share
from fedlight.parts.extraction.size_search import RoundTime
from fedlight.parts.importance import Magnitude, NormScale
from fedlight.parts.initial_client import InitialClient
from fedlight.parts.ratio.searched import SearchedRatio
from fedlight.submodels import ChannelCoverage, MaskCoverage


def doubles(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_greedy_by_hand():
    """The computed check of methods_sparse.md §1.7: 4/3, 7/4, 9/5, and 6/4 < 1.8 ends it."""
    chosen = greedy_set(doubles(3.0, 2.0, 0.5, 6.0), doubles(1.0, 1.0, 1.0, 4.0), base_gain=4.0, base_time_s=3.0)
    assert chosen.tolist() == [True, True, False, False]


items = st.lists(st.tuples(st.floats(0, 10), st.floats(0.01, 10)), min_size=1, max_size=7)


@given(items=items, base_gain=st.floats(0, 10), base_time_s=st.floats(0.01, 10))
def test_greedy_is_the_best_set(items, base_gain, base_time_s):
    gains, times = doubles(*(g for g, _ in items)), doubles(*(t for _, t in items))

    def ratio(chosen):
        return (base_gain + float(gains[chosen].sum())) / (base_time_s + float(times[chosen].sum()))

    best = max(ratio(torch.tensor(chosen)) for chosen in itertools.product((False, True), repeat=len(items)))
    assert ratio(greedy_set(gains, times, base_gain, base_time_s)) == pytest.approx(best, rel=1e-9)


def test_what_costs_nothing_is_kept():
    assert greedy_set(doubles(1.0, 0.0), doubles(0.0, 0.0), 5.0, 1.0).tolist() == [True, False]


def test_protection_fades():
    """The computed check of methods_sparse.md §1.1."""
    for round_idx, share in ((0, 0.3), (1000, 0.2799), (5000, 0.2121), (10_000, 0.15)):
        assert protected_share(round_idx, 0.3, 10_000) == pytest.approx(share, abs=5e-5)


def test_the_largest_kept_are_protected():
    sizes, kept = doubles(5, 1, 4, 9, 2, 3), torch.tensor([True, True, True, False, True, True])
    assert protect(sizes, kept, 0.4).tolist() == [True, False, True, False, False, True]
    assert protect(sizes, kept, 0.3).tolist() == [True, False, True, False, True, True]


GAINS = {
    "a.weight": torch.full((4, 2), 4.0), "b.weight": torch.full((6, 4, 1), 1.0), "c.weight": torch.full((3, 6), 9.0),
    "c.bias": torch.full((3,), 2.0),
}  # fmt: skip


def given_scores(gains):
    return Scores(lambda: None, lambda: {name: value.clone() for name, value in gains.items()})


def plain_choice(weights, gains, kept, prunable, second, fixed_s):
    """The same choice in plain loops, where every weight takes ``second`` seconds."""
    safe, pool = [], []
    for name in ("a.weight", "b.weight", "c.weight"):
        sizes = weights[name].abs().flatten().tolist()
        held = [i for i in range(len(sizes)) if kept[name][i]]
        held.sort(key=lambda i: -sizes[i])
        count = len(held) - int(prunable * len(held) + 1e-9)
        safe += [(name, i) for i in held[:count]]
        pool += [(name, i) for i in range(len(sizes)) if i not in held[:count]]
    gain_of = {(name, i): float(gains[name].flatten()[i]) for name, i in safe + pool}
    gain, time = sum(gain_of[one] for one in safe) + float(gains["c.bias"].sum()), fixed_s + second * len(safe)
    chosen = set(safe)
    for one in sorted(pool, key=lambda one: -gain_of[one] / second):
        if gain_of[one] / second <= gain / time:
            break
        chosen.add(one)
        gain, time = gain + gain_of[one], time + second
    return {
        name: [(name, i) in chosen for i in range(len(kept[name]))] for name in ("a.weight", "b.weight", "c.weight")
    }


def test_masks_by_plain_loops(make_state, weights, plan):
    """Twice in a row; with 1 s per byte, c is what is left of the round: the bytes of what is never masked."""
    generator = torch.Generator().manual_seed(4)
    search, state = SizeSearch(prunable=0.5, half_life=1e12, kernels="dense"), make_state(1)
    kept = {name: [True] * weights[name].numel() for name in ("a.weight", "b.weight", "c.weight")}
    ratios = []
    for _ in range(2):
        gains = {name: torch.rand(value.shape, generator=generator) ** 4 for name, value in GAINS.items()}
        now = search.cost(plan, search.ratio).num_bytes
        fixed_s = 100.0 + now - 4.0 * sum(map(sum, kept.values()))
        search.revise(state, given_scores(gains), RoundTime(100.0, 0.0, 1.0), Magnitude())
        kept = plain_choice(weights, gains, kept, 0.5, 4.0, fixed_s)
        found = search.extract(state, 0, search.ratio, given_scores(gains)).masks
        assert {name: mask.flatten().tolist() for name, mask in found.items()} == kept
        ratios.append(search.ratio)
        assert search.ratio == pytest.approx(1 - sum(map(sum, kept.values())) / 50)
    assert ratios[0] > 0.1
    assert search.cost(plan, search.ratio) == search.cost_of(plan, search.last(plan, 0))
    assert search.last(plan, 1) is None


def test_sparse_kernels_make_weights_cost_their_macs(make_state, plan):
    """A second per MAC and none per byte: with dense kernels pruning saves nothing, so what has a gain stays."""
    for kernels, full in (("dense", True), ("sparse", False)):
        search = SizeSearch(prunable=1.0, kernels=kernels)
        search.revise(make_state(1), given_scores(GAINS), RoundTime(1.0, 1.0, 0.0), Magnitude())
        assert search.extract(make_state(1), 0, search.ratio, given_scores(GAINS)).is_full is full


def test_channels_by_gain_per_second(make_state, plan):
    """Units of a: 2 + 6 MACs each, of b: 4 + 3; c = 0 MACs, 1 s fixed. Unit 0 has the best gain per second, then 4."""
    gains, nothing = doubles(16, 0, 0, 0, 7, 6, 0, 0, 0, 0), {"c.bias": torch.zeros(3)}
    search = SizeSearch(structured=True, prunable=1.0, half_life=1e12)
    state = make_state(1)
    search.revise(state, Scores(lambda: gains, lambda: nothing), RoundTime(1.0, 1.0, 0.0), Magnitude())
    keep = search.extract(state, 0, search.ratio, Scores(lambda: gains)).keep
    # 16 / 8 = 2 > 0 / 1; then 7 / 7 = 1 < 16 / 9 ends it, and group b keeps its best.
    assert torch.nonzero(keep).flatten().tolist() == [0, 4]
    assert search.ratio == 0.8
    assert search.cost(plan, search.ratio) == plan.cost(keep)
    again = SizeSearch(structured=True)
    again.load_state_dict(search.state_dict())
    assert torch.equal(again.extract(state, 3, 0.8, Scores(lambda: gains)).keep, keep)


@pytest.mark.parametrize(("bias", "kept"), [(0.0, [0, 1, 4]), (0.5, [0, 4])])
def test_channels_start_with_the_gain_of_what_is_never_pruned(make_state, bias, kept):
    """Units 0 and 1 take 8 s each, c 1 s: 15 / 8 = 1.875 > 16 / 9, but with the three biases it is < 17.5 / 9."""
    gains = doubles(16, 15, 0, 0, 7, 6, 0, 0, 0, 0)
    scores = Scores(lambda: gains, lambda: GAINS | {"c.bias": torch.full((3,), bias)})
    search = SizeSearch(structured=True, prunable=1.0, half_life=1e12)
    search.revise(make_state(1), scores, RoundTime(1.0, 1.0, 0.0), Magnitude())
    keep = search.extract(make_state(1), 0, search.ratio, scores).keep
    assert torch.nonzero(keep).flatten().tolist() == kept


def test_stages():
    search = SizeSearch(initial_rounds=4, initial_every=2, every=3)
    assert [search.is_initial(t) for t in range(6)] == [True] * 4 + [False] * 2
    assert [t for t in range(14) if search.is_due(t)] == [2, 4, 7, 10, 13]
    assert not any(SizeSearch(initial_rounds=0, every=50).is_due(t) for t in range(50))


def test_stage_one_ends_when_the_size_settles(make_state):
    """From the fifth revision on five comparisons are there; an unchanged map passes all."""
    search = SizeSearch(prunable=1e-9)
    for t in range(1, 6):
        assert search.is_initial(t)
        search.revise(make_state(t), given_scores(GAINS), RoundTime(1.0, 0.0, 1.0), Magnitude())
    assert not search.is_initial(6)
    assert [t for t in range(6, 120) if search.is_due(t)] == [56, 106]


def test_the_first_revision_compares_with_the_full_size(make_state):
    """1 to 0.6 is a change by 40 %: the five comparisons must come after it."""
    gains = {name: torch.zeros_like(value) for name, value in GAINS.items()} | {"c.bias": torch.ones(3)}
    search = SizeSearch()
    for t in range(1, 7):
        assert search.is_initial(t)
        search.prunable = 0.4 if t == 1 else 1e-9
        search.revise(make_state(t), given_scores(gains), RoundTime(1.0, 0.0, 1.0), Magnitude())
    assert search.ratio > 0.3
    assert not search.is_initial(7)


def parts(search):
    return {"extraction": search, "importance": Magnitude()}


def test_one_client_first(make_state):
    search = SizeSearch(initial_rounds=3)
    selection = InitialClient()
    selection.meet(parts(search))
    first = [selection.select(make_state(t), range(10), 4) for t in range(3)]
    assert first[0] == first[1] == first[2]
    assert len(first[0]) == 1
    assert len(selection.select(make_state(3), range(10), 4)) == 4
    again = InitialClient()
    again.meet(parts(search))
    again.load_state_dict(selection.state_dict())
    assert again.select(make_state(1), range(10), 4) == first[0]
    up = [client for client in range(10) if client not in first[0]]
    assert selection.select(make_state(1), up, 4)[0] in up
    assert selection.select(make_state(1), [], 4) == []


def test_seconds_are_learned(make_state, make_report):
    """Times of 2 s + 1e-3 s per MAC + 1e-2 s per byte each way: the coefficients of the mean client."""
    ratio, state = SearchedRatio(), make_state(1)
    search = SizeSearch(kernels="dense")
    ratio.meet(parts(search))
    assert ratio.choose(state, [0, 1]) == {0: 0.0, 1: 0.0}  # nobody has come back yet
    works = [Work(3000.0 * f, int(1000 * f), int(1000 * f)) for _ in range(40) for f in (1.0, 0.5, 0.25)]
    for client in (0, 1):
        slow = 1 + client
        ratio.observe(
            state,
            [
                make_report(
                    client=client, work=w,
                    timing=Timing(
                        0.01 * slow * w.download_bytes, 2 + 1e-3 * slow * w.macs, 0.01 * slow * w.upload_bytes
                    ),
                )
                for w in works
            ],
        )  # fmt: skip
    found, cost = ratio._learned(state, [0, 1]), search.cost(state.plan, 0.0)
    assert found.fixed_s == pytest.approx(2.0, rel=0.05)
    assert found.s_per_mac == pytest.approx(1.5 * 1e-3 * 3000 / cost.macs, rel=0.05)
    assert found.s_per_byte == pytest.approx(1.5 * 1e-2 * 2000 / cost.num_bytes, rel=0.05)
    again = SearchedRatio()
    again.meet(parts(search))
    again.load_state_dict(ratio.state_dict())
    assert again._learned(state, [0, 1]) == found


def test_mean_under_one_map_prunes_the_global_model(plan, make_state, make_update, weights, alone):
    masks = {"b.weight": torch.rand(6, 4, 1, generator=torch.Generator().manual_seed(0)) > 0.5}
    coverage = MaskCoverage(plan.structure, masks)
    aggregation, updates = SharedMapMean(), [make_update(coverage, client) for client in (0, 1)]
    aggregation.begin(make_state(), [SimpleNamespace(coverage=coverage, client=client) for client in (0, 1)])
    for client, update in enumerate(updates):
        aggregation.add(coverage, update, 1.0 + client)
    merged = aggregation.finish(alone)
    after = weights["b.weight"] + merged["b.weight"]
    assert after[~masks["b.weight"]].abs().max() == 0
    mean = (updates[0].delta["b.weight"] + 2 * updates[1].delta["b.weight"]) / 3
    torch.testing.assert_close(merged["b.weight"][masks["b.weight"]], mean[masks["b.weight"]])


def test_removed_channels_are_no_longer_read(plan, make_state, make_update, weights, alone):
    keep = torch.ones(10, dtype=torch.bool)
    keep[[1, 6]] = False
    coverage, aggregation = ChannelCoverage(plan.structure, keep), SharedMapMean()
    aggregation.begin(make_state(), [SimpleNamespace(coverage=coverage, client=0)])
    aggregation.add(coverage, make_update(coverage, 0), 1.0)
    merged = aggregation.finish(alone)
    after = {name: weights[name] + merged[name] for name in ("a.weight", "b.weight", "c.weight")}
    assert after["b.weight"][:, 1].abs().max() == 0
    assert after["c.weight"][:, 2].abs().max() == 0
    assert torch.equal(after["a.weight"][1], weights["a.weight"][1])  # it may come back


def test_wrong_compositions_and_constants_are_refused():
    for part in (SearchedRatio(), InitialClient()):
        with pytest.raises(ConfigError, match="works with extraction SizeSearch, not Channels"):
            part.meet(parts(Channels()))
    for options, message in (
        ({"initial_rounds": -1}, "initial_rounds=-1"), ({"every": 0}, "prune_every=0"), ({"prunable": 0}, "prunable=0"),
        ({"initial_every": 0}, "initial_every=0"), ({"half_life": 0}, "half_life=0"),
        ({"tolerance": -1}, "tolerance=-1"), ({"kernels": "fast"}, "kernels='fast'"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            SizeSearch(**options)
    with pytest.raises(ConfigError, match="s_per_mac is missing"):
        SearchedRatio(fixed_s=1.0)
    with pytest.raises(ConfigError, match="s_per_byte=-1"):
        SearchedRatio(1.0, 1.0, -1.0)


@pytest.mark.parametrize("structured", [False, True])
def test_it_needs_scores_of_single_weights(structured):
    """For channels too: Δ starts with what is never pruned."""
    with pytest.raises(ConfigError, match="NormScale scores units, not single weights"):
        SizeSearch(structured).meet({"importance": NormScale()})
    SizeSearch(structured).meet({"importance": Magnitude()})
