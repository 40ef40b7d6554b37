"""The non-IID degree by hand, and the edges of FedDU's step."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedlight.errors import ConfigError, DataError
from fedlight.parts.server_update import DynamicServerUpdate
from fedlight.parts.server_update.dynamic import non_iid_degree


class Held:
    """Examples of given counts of labels."""

    def __init__(self, counts):
        self.counts = counts

    @property
    def num_examples(self):
        return sum(self.counts or [4])

    def label_counts(self):
        return None if self.counts is None else torch.tensor(self.counts)


class Desk:
    """A desk that says what it is told, and trains everything to 1."""

    def __init__(self, clients, own, accuracy=0.5, value=1.0):
        self.clients, self.own, self.accuracy, self.value, self.asked = clients, own, accuracy, value, []

    def client_label_counts(self, client):
        return Held(self.clients[client]).label_counts()

    def examples(self, half):
        assert half == "train"
        return Held(self.own)

    def score(self, weights, metric, half):
        self.asked.append((metric, half))
        return self.accuracy

    def train(self, weights, local, round_idx, half):
        self.asked.append(half)
        update = {name: self.value - value for name, value in weights.items()}

        class Trained:
            delta, buffers = update, {}

            def is_finite(self):
                return all(bool(value.isfinite().all()) for value in update.values())

        return Trained()


@pytest.fixture
def apply(make_state, make_report):
    def run(part, desk, clients=(0, 1), round_idx=0, sizes=(10, 10, 20)):
        state = make_state(round_idx, desk=desk, num_examples=torch.tensor(sizes).numpy())
        return part.apply(state, [make_report(client) for client in clients], {}, {"w": torch.zeros(2)})["w"].tolist()

    return run


@pytest.mark.parametrize(
    ("counts", "population", "degree"),
    [
        ([3, 3], [50, 50], 0.0),
        ([7, 0], [0, 9], 1.0),
        ([1, 0], [2, 2], 0.5 * math.log2(4 / 3) + 0.25 * math.log2(2 / 3) + 0.25),
    ],
)
def test_degrees_by_hand(counts, population, degree):
    assert non_iid_degree(torch.tensor(counts), torch.tensor(population)) == pytest.approx(degree, abs=1e-12)


@given(st.lists(st.integers(0, 9), min_size=3, max_size=3).filter(any), st.integers(1, 5))
def test_degrees_lie_between_0_and_1_and_count_shares_only(counts, times):
    one, other = torch.tensor(counts), torch.tensor([1, 2, 3])
    degree = non_iid_degree(one, other)
    assert 0 <= degree <= 1 + 1e-12
    assert non_iid_degree(times * one, other) == pytest.approx(degree, abs=1e-9)
    assert non_iid_degree(other, one) == pytest.approx(degree, abs=1e-9)


def test_the_step_by_hand(apply):
    """Clients 0 and 1 hold class 0 alone, client 2 class 1: D' = D((1, 0), (½, ½)); the server's mix has degree 0."""
    desk = Desk([[10, 0], [10, 0], [0, 20]], [5, 5], accuracy=0.25)
    degree, eps = 0.3112781244591328, 0.01
    share = 10 * (degree + eps) / (10 * (degree + eps) + 20 * eps)
    part = DynamicServerUpdate(scale=0.5, decay=0.9, eps=eps)
    assert apply(part, desk, round_idx=3) == pytest.approx([0.75 * share * 0.5 * 0.9**3] * 2)
    assert desk.asked == [("val/accuracy", "holdout"), "train"]
    assert part.metrics() == {"server/step": pytest.approx(0.75 * share * 0.5 * 0.9**3), "server/accuracy": 0.25}


def test_equal_mixes_everywhere_share_by_examples(apply):
    desk = Desk([[5, 5], [5, 5], [10, 10]], [5, 5], accuracy=0.0)
    assert apply(DynamicServerUpdate(), desk) == pytest.approx([10 / (10 + 20)] * 2)


@pytest.mark.parametrize(
    ("options", "accuracy", "asked"), [({"scale": 0.0}, 0.5, 0), ({}, 1.0, 1), ({"min_step": 0.5}, 0.5, 1)]
)
def test_where_the_server_stays_away(options, accuracy, asked, apply):
    desk = Desk([[5, 5]] * 3, [5, 5], accuracy)
    assert apply(DynamicServerUpdate(**options), desk) == [0.0, 0.0]
    assert len(desk.asked) == asked


def test_training_that_blew_up_and_rounds_without_a_client_change_nothing(apply):
    assert apply(DynamicServerUpdate(), Desk([[5, 5]] * 3, [5, 5], value=math.inf)) == [0.0, 0.0]
    assert apply(DynamicServerUpdate(), Desk([[5, 5]] * 3, [5, 5]), clients=()) == [0.0, 0.0]


def test_data_without_labels_are_refused(apply):
    with pytest.raises(DataError, match="the data have none"):
        apply(DynamicServerUpdate(), Desk([None] * 3, None))


@pytest.mark.parametrize(
    "options",
    [{"scale": -1.0}, {"scale": math.inf}, {"decay": 0.0}, {"decay": 1.1}, {"min_step": -1.0}, {"eps": 0.0}],
)
def test_bad_constants_are_refused(options):
    with pytest.raises(ConfigError, match=f"{next(iter(options))}=.* of DynamicServerUpdate"):
        DynamicServerUpdate(**options)
