"""How a ratio is spread over the layers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedlight.core.slots import Scores
from fedlight.errors import ConfigError
from fedlight.parts.extraction import Channels, ERKRatios, SensitivityRatios, UniformRatios, Weights
from fedlight.parts.extraction.layer_ratios import densities, exact_counts
from fedlight.parts.importance import Magnitude, MixedImportance

LENET = [(6, 3, 5, 5), (16, 6, 5, 5), (120, 400), (84, 120), (10, 84)]
CIFAR10_NET = [(6, 3, 5, 5), (16, 6, 5, 5), (120, 16 * 20 * 20), (84, 120), (10, 84)]


def erk(shapes, density):
    sizes = [math.prod(shape) for shape in shapes]
    return densities(ERKRatios().weigh(shapes, None), sizes, 1 - density)


@pytest.mark.parametrize(
    ("density", "expected"),
    [(0.2, [0.6273, 0.1981, 0.1609, 0.3007, 1.0]), (0.5, [1.0, 0.5220, 0.4241, 0.7923, 1.0])],
)
def test_erk_of_lenet(density, expected):
    """The computed check of methods_sparse.md §11.2."""
    assert sum(math.prod(shape) for shape in LENET) == 61_770
    assert erk(LENET, density) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(
    ("density", "expected"),
    [
        (0.2, [0.9692, 0.3061, 0.1949, 0.4645, 1.0]), (0.5, [1.0, 0.7723, 0.4917, 1.0, 1.0]),
        (0.1, [0.4820, 0.1522, 0.0969, 0.2310, 1.0]),
    ],
)  # fmt: skip
def test_erk_of_the_net_of_feddst(density, expected):
    """The computed check of methods_sparse.md §11.2; pooling of stride 1 leaves 20 x 20 maps."""
    assert erk(CIFAR10_NET, density) == pytest.approx(expected, abs=5e-5)


layers = st.lists(st.tuples(st.integers(1, 40), st.floats(0.01, 10)), min_size=1, max_size=6)


@given(layers=layers, ratio=st.floats(0, 0.95))
def test_densities_keep_the_total(layers, ratio):
    sizes, weights = [size for size, _ in layers], np.array([weight for _, weight in layers])
    found = densities(weights, sizes, ratio)
    assert np.all((found > 0) & (found <= 1))
    assert float(found @ np.array(sizes)) == pytest.approx((1 - ratio) * sum(sizes))
    order = np.argsort(weights)
    assert np.all(np.diff(found[order]) >= -1e-12)  # who weighs more keeps no less


@given(layers=layers, ratio=st.floats(0, 0.95))
def test_counts_are_exact(layers, ratio):
    sizes, weights = [size for size, _ in layers], np.array([weight for _, weight in layers])
    total = max(1, sum(sizes) - round(sum(sizes) * ratio))
    counts = exact_counts(densities(weights, sizes, ratio), sizes, total)
    assert sum(counts) == max(total, len(sizes))
    assert all(1 <= count <= size for count, size in zip(counts, sizes, strict=True))


def test_sensitive_layers_stay_denser():
    """Mean scores 4 and 1 at power ½ weigh 2 : 1; of 20 entries 9 stay, 6 and 3."""
    weights = SensitivityRatios(power=0.5).weigh([(10, 1), (10, 1)], np.array([4.0, 1.0]))
    assert weights[0] / weights[1] == pytest.approx(2.0)
    assert exact_counts(densities(weights, [10, 10], 0.55), [10, 10], 9) == [6, 3]
    assert SensitivityRatios().weigh([(10, 1), (10, 1)], None).tolist() == [1.0, 1.0]
    assert UniformRatios().weigh([(10, 1)], np.array([3.0])).tolist() == [1.0]


def test_masks_by_erk(make_state):
    """Weights (4 + 2) / 8, (6 + 4 + 1) / 24, (3 + 6) / 18; of 50 entries 20 stay, ε = 20 / 26."""
    extraction = Weights(layers=ERKRatios())
    state = make_state()
    coverage = extraction.extract(state, 0, 0.6, Scores.of(Magnitude(), state, 0))
    counts = [int(mask.sum()) for mask in coverage.masks.values()]
    assert counts == [5, 8, 7]  # of 4.62, 8.46 and 6.92: one place for the largest remainder after 4, 8, 6 and another
    assert extraction.cost(state.plan, 0.6) == extraction.cost_of(state.plan, coverage)


def test_learnt_masks_follow_the_scores_and_survive_a_restart(make_state, plan):
    scores = {"a.weight": torch.full((4, 2), 16.0), "b.weight": torch.ones(6, 4, 1), "c.weight": torch.ones(3, 6)}
    first, second = (Weights(layers=SensitivityRatios(power=0.5)) for _ in range(2))
    assert first.cost(plan, 0.5) == Weights(layers=UniformRatios()).cost(plan, 0.5)  # nothing is known yet
    coverage = first.extract(make_state(), 0, 0.5, Scores(lambda: None, lambda: scores))
    assert "a.weight" not in coverage.masks  # whole: 4 times the density of the others would be above 1
    assert [int(coverage.masks[name].sum()) for name in ("b.weight", "c.weight")] == [10, 7]  # of 17 places
    second.load_state_dict(first.state_dict())
    assert first.cost(plan, 0.5) == second.cost(plan, 0.5) == first.cost_of(plan, coverage)


def test_channels_by_erk(make_state, plan):
    """First layers (4, 2) and (6, 4, 1) weigh .75 and .4583; of 10 units 5 stay: 2.61 and 2.39, rounded by group."""
    channels = Channels(round_to=1, layers=ERKRatios())
    coverage = channels.extract(make_state(), 0, 0.5, Scores(lambda: torch.arange(10.0)))
    assert [int(coverage.keep[group.units].sum()) for group in plan.groups] == [3, 2]
    assert channels.cost(plan, 0.5) == channels.cost_of(plan, coverage)
    assert channels.extract(make_state(1), 0, 0.0, Scores(lambda: torch.arange(10.0))).is_full


def test_channels_learn_their_ratios(make_state, plan):
    channels, scores = Channels(round_to=1, layers=SensitivityRatios(power=1.0)), torch.ones(10)
    scores[:4] = 3.0
    coverage = channels.extract(make_state(), 0, 0.5, Scores(lambda: scores))
    assert [int(coverage.keep[group.units].sum()) for group in plan.groups] == [3, 2]  # ε (3 · 4 + 6) = 5: 3.33, 1.67
    again = Channels(round_to=1, layers=SensitivityRatios(power=1.0))
    again.load_state_dict(channels.state_dict())
    assert again.cost(plan, 0.5) == channels.cost(plan, 0.5)


def test_wrong_options_are_refused():
    with pytest.raises(ConfigError, match="power=-1"):
        SensitivityRatios(power=-1)
    with pytest.raises(ConfigError, match="use scope='layer'"):
        Weights("global", layers=ERKRatios())
    with pytest.raises(ConfigError, match="layers spreads the ratio over groups"):
        Channels("global", layers=ERKRatios())
    with pytest.raises(ConfigError, match="learns nothing from scores under normalizer='mean'"):
        Weights(layers=SensitivityRatios(), normalizer="mean")


def test_layers_do_not_learn_from_scores_that_are_alike_in_all_layers():
    """The mean of a group's scores is 1, whatever they are, once they are divided by it."""
    learning = Channels(layers=SensitivityRatios())
    for importance in (Magnitude(), MixedImportance(Magnitude())):
        with pytest.raises(ConfigError, match=r"Magnitude with normalizer='mean'.*: set its normalizer to null"):
            learning.meet({"importance": importance})
    learning.meet({"importance": Magnitude(normalizer=None)})
    Channels(layers=ERKRatios()).meet({"importance": Magnitude()})
