"""Which map a client gets, when it changes, and what it costs."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedlight.core.slots import Scores
from fedlight.errors import CheckpointError, ConfigError
from fedlight.parts.extraction import Channels, Weights
from fedlight.parts.importance import Magnitude
from fedlight.submodels.keep import choose

UP = torch.arange(10.0)  # the last units of both groups matter most
DOWN = -UP


def magnitude(state, client, ratio):
    return state, client, ratio, Scores.of(Magnitude(), state, client)


def kept(coverage):
    return torch.nonzero(coverage.keep).flatten().tolist()


def test_keeps_the_units_with_the_highest_scores(make_state):
    coverage = Channels(round_to=1).extract(make_state(), 0, 0.5, Scores(lambda: UP))
    assert kept(coverage) == [2, 3, 7, 8, 9]


def test_ratio_zero_is_the_full_model_and_asks_nobody(make_state):
    def scores():
        raise AssertionError("no map is drawn at ratio 0")

    assert Channels().extract(make_state(), 0, 0.0, Scores(scores)).is_full


def test_global_scope_lets_groups_compete(make_state):
    coverage = Channels(scope="global", round_to=1).extract(make_state(), 0, 0.4, Scores(lambda: UP))
    assert kept(coverage) == [3, 5, 6, 7, 8, 9]  # one of the first group by the floor


def test_a_map_holds_between_pruning_rounds(make_state):
    channels, scores = Channels(round_to=1, every=3), [UP]
    maps = []
    for round_idx in range(7):
        scores[0] = UP if round_idx in (0, 6) else DOWN
        maps.append(kept(channels.extract(make_state(round_idx), 0, 0.5, Scores(lambda: scores[0]))))
    up, down = [2, 3, 7, 8, 9], [0, 1, 4, 5, 6]
    assert maps == [up, up, up, down, down, down, up]


def test_scores_are_asked_for_only_when_a_map_is_drawn(make_state):
    channels, asked = Channels(round_to=1, every=2), []
    for round_idx in range(4):
        channels.extract(make_state(round_idx), 0, 0.5, Scores(lambda t=round_idx: asked.append(t) or UP))
    assert asked == [0, 2]


def test_no_map_changes_after_the_last_pruning_round(make_state):
    channels = Channels(round_to=1, until=1)
    assert kept(channels.extract(make_state(1), 0, 0.5, Scores(lambda: UP))) == [2, 3, 7, 8, 9]
    assert kept(channels.extract(make_state(2), 0, 0.5, Scores(lambda: DOWN))) == [2, 3, 7, 8, 9]


def test_a_new_ratio_between_prunings_only_drops_or_adds(make_state):
    """The map [2, 3 | 7, 8, 9] under scores that would choose quite other units."""
    channels = Channels(round_to=1, every=10)
    channels.extract(make_state(0), 0, 0.5, Scores(lambda: UP))
    assert kept(channels.extract(make_state(1), 0, 0.75, Scores(lambda: DOWN))) == [2, 7, 8]
    assert kept(channels.extract(make_state(2), 0, 0.5, Scores(lambda: DOWN))) == [0, 2, 4, 7, 8]


def test_cosine_exchange_settles_the_map(make_state):
    """p = ½ (1 + cos(π t / 4)): 1, .854, .5, .146, 0; of 3 kept units 0, 1, 2, 3 and 3 are safe."""
    exchanged = []
    for round_idx in range(5):
        channels = Channels(round_to=1, until=4, exchange="cosine")
        channels.extract(make_state(0), 0, 0.5, Scores(lambda: UP))
        now = kept(channels.extract(make_state(round_idx), 0, 0.5, Scores(lambda: DOWN)))
        exchanged.append(len({7, 8, 9} - set(now)))
    assert exchanged == [3, 2, 1, 0, 0]


@given(ratio=st.floats(0.05, 0.9), share_round=st.integers(0, 8), seed=st.integers(0, 99))
def test_an_exchange_never_exceeds_its_share(ratio, share_round, seed, settled):
    plan, make_state = settled
    generator = torch.Generator().manual_seed(seed)
    old_scores, new_scores = torch.rand(10, generator=generator), torch.rand(10, generator=generator)
    channels = Channels(round_to=1, until=8, exchange="cosine")
    old = channels.extract(make_state(0), 0, ratio, Scores(lambda: old_scores)).keep
    new = channels.extract(make_state(share_round), 0, ratio, Scores(lambda: new_scores)).keep
    share = 0.5 * (1 + torch.cos(torch.tensor(torch.pi * share_round / 8)).item())
    for group in plan.groups:
        before, after = old[group.units], new[group.units]
        assert int(before.sum()) == int(after.sum())
        assert int((before & ~after).sum()) <= share * int(before.sum()) + 1e-6
        left, entered = new_scores[group.units][before & ~after], new_scores[group.units][after & ~before]
        assert len(left) == 0 or float(left.max()) <= float(entered.min())


def test_clients_have_maps_of_their_own(make_state, plan):
    channels = Channels(round_to=1, every=10)
    channels.extract(make_state(), 0, 0.5, Scores(lambda: UP))
    channels.extract(make_state(), 7, 0.5, Scores(lambda: DOWN))
    assert kept(channels.last(plan, 0)) == [2, 3, 7, 8, 9]
    assert kept(channels.last(plan, 7)) == [0, 1, 4, 5, 6]
    assert channels.last(plan, 1) is None


def test_channel_costs_are_those_of_the_map(make_state, plan):
    channels = Channels(round_to=1)
    for ratio in (0.0, 0.25, 0.5, 0.75):
        coverage = channels.extract(make_state(), 0, ratio, Scores(lambda: UP))
        assert channels.cost(plan, ratio) == channels.cost_of(plan, coverage) == plan.cost(coverage.keep)
    assert channels.cost(plan, 0.5).macs == 2 * 2 + 2 * 3 + 3 * 3


def test_maps_survive_a_restart(make_state, plan):
    first = Channels(round_to=1, every=10)
    first.extract(make_state(), 3, 0.5, Scores(lambda: UP))
    first.extract(make_state(), 90_000, 0.25, Scores(lambda: DOWN))
    second = Channels(round_to=1, every=10)
    second.load_state_dict(first.state_dict())
    for client, ratio in ((3, 0.5), (90_000, 0.25)):
        assert torch.equal(first.last(plan, client).keep, second.last(plan, client).keep)
        assert kept(second.extract(make_state(1), client, ratio, Scores(lambda: -UP))) == kept(first.last(plan, client))
    assert first.state_dict()["maps"].dtype == torch.uint8
    assert first.state_dict()["maps"].shape == (2, 2)  # 10 units in 2 bytes
    Channels().load_state_dict(Channels().state_dict())


def test_maps_of_another_model_are_refused(make_state, plan):
    channels = Channels()
    channels.load_state_dict(
        {
            "clients": torch.tensor([0]),
            "ratios": torch.tensor([0.5]),
            "means": [],
            "maps": torch.zeros(1, 9, dtype=torch.uint8),
        }
    )
    with pytest.raises(CheckpointError, match="9 bytes don't fit a model of 10 units"):
        channels.last(plan, 0)


def test_wrong_options_are_refused():
    with pytest.raises(ConfigError, match="every=0"):
        Channels(every=0)
    with pytest.raises(ConfigError, match="exchange='some'"):
        Channels(exchange="some")
    with pytest.raises(ConfigError, match="until=None is no last round"):
        Channels(exchange="cosine")
    with pytest.raises(ConfigError, match="scope='network'"):
        Weights("network")


def test_masks_keep_the_largest_weights_of_each_tensor(make_state, weights):
    coverage = Weights().extract(*magnitude(make_state(), 0, 0.75))
    assert coverage.masks.keys() == {"a.weight", "b.weight", "c.weight"}
    for name, count in (("a.weight", 2), ("b.weight", 6), ("c.weight", 4)):  # 18 - round(13.5) = 4
        mask = coverage.masks[name]
        assert int(mask.sum()) == count
        assert weights[name][mask].abs().min() >= weights[name][~mask].abs().max()


def test_equal_weights_are_kept_in_order(make_state, weights):
    weights["a.weight"].fill_(0.5)
    mask = Weights().extract(*magnitude(make_state(), 0, 0.5)).masks["a.weight"]
    assert mask.flatten().tolist() == [True] * 4 + [False] * 4


def test_a_global_threshold_leaves_no_tensor_empty(make_state, weights):
    weights["c.weight"].mul_(1e-3)
    masks = Weights("global").extract(*magnitude(make_state(), 0, 0.7)).masks
    assert int(masks["c.weight"].sum()) == 1
    assert int(masks["a.weight"].sum() + masks["b.weight"].sum()) == 50 - 35


def test_masks_cost_dense_macs_and_the_cheapest_bytes(make_state, plan):
    extraction = Weights()
    full = plan.cost(torch.ones(10, dtype=torch.bool))
    for ratio in (0.0, 0.5, 0.9):
        coverage = extraction.extract(*magnitude(make_state(), 0, ratio))
        assert extraction.cost(plan, ratio) == extraction.cost_of(plan, coverage)
        assert extraction.cost(plan, ratio).macs == full.macs
    assert extraction.cost(plan, 0.0) == full
    # 8, 24 and 18 weights: bitmaps of 1, 3 and 3 bytes and 4 bytes per kept weight. At .9 they keep 1, 2 and 2, for
    # which coordinates take ⌈(3 + 32) / 8⌉ = 5 and ⌈2 (5 + 32) / 8⌉ = 10 bytes, no more than bitmaps.
    assert full.num_bytes - extraction.cost(plan, 0.5).num_bytes == 4 * 50 - (17 + 51 + 39)
    assert full.num_bytes - extraction.cost(plan, 0.9).num_bytes == 4 * 50 - (5 + 10 + 10)
    assert full.parameters - extraction.cost(plan, 0.5).parameters == 25


def test_masks_are_shared_dropped_and_survive_a_restart(make_state, plan, weights):
    first = Weights()
    for client in (0, 1):
        first.extract(*magnitude(make_state(0), client, 0.5))
    weights["a.weight"].neg_().add_(1.0)
    now = first.extract(*magnitude(make_state(1), 0, 0.5))
    assert len(first.state_dict()["maps"]) == 2
    assert all(bits.dtype == torch.uint8 and len(bits) == 7 for bits in first.state_dict()["maps"].values())  # 50 bits
    first.extract(*magnitude(make_state(1), 1, 0.5))
    assert len(first.state_dict()["maps"]) == 1
    second = Weights()
    second.load_state_dict(first.state_dict())
    for extraction in (first, second):
        for name, mask in extraction.last(plan, 1).masks.items():
            assert torch.equal(mask, now.masks[name])
    assert second.last(plan, 9) is None
    for client, ratio in ((1, 0.2), (0, 0.2), (1, 0.5)):  # a map comes back in the round in which it went
        first.extract(*magnitude(make_state(1), client, ratio))
    assert torch.equal(first.last(plan, 1).masks["a.weight"], now.masks["a.weight"])


def test_equal_masks_of_many_rounds_are_kept_once(make_state, plan):
    extraction = Weights()
    for round_idx in range(20):  # a client each, and none comes back
        coverage = extraction.extract(*magnitude(make_state(round_idx), round_idx, 0.0))
        assert coverage.is_full
    assert len(extraction.state_dict()["maps"]) == 1
    assert extraction.last(plan, 3).is_full


def test_masks_of_another_model_are_refused(plan):
    extraction = Weights()
    extraction.load_state_dict(
        {"maps": {"one": torch.zeros(9, dtype=torch.uint8)}, "clients": {0: (0.5, "one")}, "means": {}}
    )
    with pytest.raises(CheckpointError, match="9 bytes don't fit a model of 50 masked weights"):
        extraction.last(plan, 0)


def test_a_shielded_choice_of_everything_is_the_plain_choice(make_state, plan):
    channels = Channels(round_to=1, until=4, exchange="cosine")
    channels.extract(make_state(0), 0, 0.5, Scores(lambda: UP))
    now = channels.extract(make_state(0), 0, 0.5, Scores(lambda: DOWN))
    assert torch.equal(now.keep, choose(plan.groups, DOWN, 0.5, round_to=1))


@pytest.mark.parametrize(
    ("ratio", "counts"), [(0.0, (4, 6)), (0.1, (3, 5)), (0.5, (2, 3)), (0.7, (1, 1)), (0.9, (1, 1))]
)
def test_floor_counts(ratio, counts, make_state, plan):
    """⌊4 (1 - ratio)⌋ and ⌊6 (1 - ratio)⌋ units, one at least, and the price agrees."""
    channels = Channels(round_to=1, rounding="floor")
    coverage = channels.extract(make_state(0), 0, ratio, Scores(lambda: UP))
    assert (int(coverage.keep[:4].sum()), int(coverage.keep[4:].sum())) == counts
    assert channels.cost(plan, ratio) == channels.cost_of(plan, coverage)


def test_floor_counts_go_with_exact_counts_only():
    with pytest.raises(ConfigError, match="rounding='floor' counts exactly"):
        Channels(rounding="floor")
    with pytest.raises(ConfigError, match="rounding='up'"):
        Channels(rounding="up")


class Unscanned(dict):
    """A fleet that is too large to look through for one client."""

    def values(self):
        raise AssertionError

    items = __iter__ = values


def test_one_clients_masks_cost_no_look_at_all_others(make_state, plan):
    extraction = Weights()
    extraction._clients = Unscanned()
    for round_idx, ratio in enumerate((0.5, 0.25, 0.5)):
        for client in range(3):
            extraction.extract(*magnitude(make_state(round_idx), client, ratio))
        assert len(extraction._maps) == 1  # that of the round before is gone with its last client


def test_clients_of_one_map_hold_the_same_masks(make_state):
    """Else a cohort of hundreds would hold a byte per weight and client."""
    extraction, state = Weights(every=2), make_state(0)
    _, second, third = (extraction.extract(*magnitude(state, client, 0.5)) for client in range(3))
    assert second is third
    other = extraction.extract(*magnitude(state, 3, 0.25))
    assert not other.is_full
    kept = [extraction.extract(*magnitude(make_state(1), client, 0.5)) for client in range(3)]
    assert kept[0] is kept[1] is kept[2]
    assert all(torch.equal(kept[0].masks[name], mask) for name, mask in second.masks.items())
