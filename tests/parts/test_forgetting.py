"""Should a client that has expired return, it is treated as new."""

import numpy as np
import pytest

from fedlight.parts.contribution import (
    ByScore,
    ClasswiseCosine,
    CosineGradient,
    Reputation,
    RobustVolume,
    Scored,
)
from fedlight.parts.selection import LeastAvailable, Oort, TiFL


@pytest.mark.parametrize(
    "make", [ByScore, CosineGradient, ClasswiseCosine, lambda: Scored(CosineGradient(), ByScore())]
)
def test_a_forgotten_share_is_the_share_of_examples_again(make, make_state):
    """10, 20, 30 and 40 examples; client 3 is never heard of and keeps its .4 throughout."""
    part, state = make(), make_state(num_examples=np.array([10, 20, 30, 40]))
    for _ in range(5):
        part.observe(state, {0: 0.7, 1: 0.2, 2: 0.1})
    before = part.weights(state, range(4))
    assert before[0] > 0.15
    part.forget([0, 3])
    after = part.weights(state, range(4))
    assert after[0] == pytest.approx(0.1)
    assert after[3] == pytest.approx(0.4)
    assert after[1] + after[2] == pytest.approx(0.5)  # as many as their examples are
    assert after[1] / after[2] == pytest.approx(before[1] / before[2])
    again = make()
    again.load_state_dict(part.state_dict())
    for one in (part, again):
        one.forget([1, 2])
    assert part.weights(state, range(4)) == again.weights(state, range(4))
    assert list(part.weights(state, range(4)).values()) == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_a_forgotten_reputation_is_the_mean_and_the_removed_stay_removed(make_state):
    part, state = Reputation(moving_average=0.5, patience=0, threshold=0.5), make_state(num_examples=np.full(4, 10))
    part.forget([0])  # nothing is known yet
    part.observe(state, {0: 0.9, 1: 0.5, 2: 0.4, 3: -1.0})
    before = part.weights(state, range(4))
    assert before[3] == 0.0
    part.forget([0, 3])
    after = part.weights(state, range(4))
    assert after[3] == 0.0
    assert after[0] == pytest.approx((after[1] + after[2]) / 2)
    assert after[1] / after[2] == pytest.approx(before[1] / before[2])
    assert sum(after.values()) == pytest.approx(1.0)


def test_a_forgotten_volume_is_asked_for_again(make_state):
    part = RobustVolume()
    assert part.summary(2) is not None
    part.observe(make_state(), {2: 1.5, 3: 2.5})
    assert part.summary(2) is part.summary(3) is None
    part.forget([2, 7])
    assert part.summary(2) is not None
    assert part.summary(3) is None


def test_a_forgotten_client_is_counted_anew(make_state):
    part = LeastAvailable(hold_off=9)
    part.forget([0])  # nothing is known yet
    for round_idx in range(4):
        part.select(make_state(round_idx), [0, 1, 2], 2)
    part.forget([0, 1])
    known = part.state_dict()
    assert known["there"].tolist()[:3] == [0, 0, 4]
    assert known["asked"].tolist()[:4] == [0, 0, 4, 4]
    assert known["free_from"].tolist()[:2] == [0, 0]


def play(part, make_state, make_report, rounds, num_clients=20, count=5):
    """Return how often every client was drawn; all are equally useful, and client n takes 1 + n seconds."""
    drawn = np.zeros(num_clients, dtype=np.int64)
    for round_idx in rounds:
        state = make_state(round_idx, num_examples=np.full(num_clients, 10))
        cohort = part.select(state, range(num_clients), count)
        drawn[cohort] += 1
        metrics = {"train/loss": 1.0}
        part.observe(state, [make_report(n, total_s=1.0 + n, num_examples=10, metrics=metrics) for n in cohort])
    return drawn


def test_oort_explores_the_forgotten_again(make_state, make_report):
    """With all explored nobody is looked for any more (ε = 0); two that are forgotten are, until they are found."""
    part = Oort()
    play(part, make_state, make_report, range(60))
    assert part.metrics()["selection/exploration"] == 0.0
    part.forget([99])  # nobody that it knows
    assert part.metrics()["selection/exploration"] == 0.0
    part.forget([3, 4])
    assert part.metrics()["selection/exploration"] == 0.2
    again = Oort()
    again.load_state_dict(part.state_dict())
    drawn = play(part, make_state, make_report, range(60, 65))
    assert drawn[[3, 4]].min() >= 1
    assert part.metrics()["selection/exploration"] == 0.0
    assert np.array_equal(play(again, make_state, make_report, range(60, 65)), drawn)


def test_the_forgotten_have_no_tier_until_they_are_met_again(make_state, make_report):
    """Twenty clients in two tiers: 0 is of the fast one, 19 of the slow one."""
    part = TiFL(num_tiers=2, interval=2, profiling_rounds=3)
    play(part, make_state, make_report, range(8), count=10)
    assert part.state_dict()["tiers"][[0, 19]].tolist() == [0, 1]
    part.forget([0, 19, 99])
    assert part.state_dict()["tiers"][[0, 19]].tolist() == [-1, -1]
    state = make_state(9, num_examples=np.full(20, 10))
    part.observe(state, [make_report(1, total_s=2.0, num_examples=10, metrics={"train/loss": 1.0})])
    assert part.state_dict()["tiers"][[0, 19]].tolist() == [-1, -1]  # tiers were made anew
    part.observe(
        make_state(11, num_examples=np.full(20, 10)),
        [make_report(19, total_s=20.0, num_examples=10, metrics={"train/loss": 1.0})],
    )
    assert part.state_dict()["tiers"][[0, 19]].tolist() == [-1, 1]
