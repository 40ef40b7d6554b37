import math

import pytest

from fedlight.errors import ConfigError
from fedlight.parts.ratio import Reward

LOSSES = [{0: 2.0, 1: 2.0, 2: 2.0}, {0: 1.0, 1: 1.5, 2: 2.5}]
TIMES_S = (1.0, 2.0, 6.0)  # mean 3, gaps 2, 1, 3


def rewards(make_state, make_report, losses=LOSSES, **options):
    """Rewards of the last round, by client; clients hold 10, 10 and 20 examples."""
    part = Reward(**({"normalise": "none"} | options))
    for round_idx, of_clients in enumerate(losses):
        reports = [
            make_report(n, 0.5, TIMES_S[n], metrics={"train/loss": loss}, num_examples=(10, 10, 20)[n])
            for n, loss in of_clients.items()
        ]
        earned = part.of_clients(make_state(round_idx), reports)
    return {report.client: reward for report, reward in earned}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {0: 1.0 / 2, 1: 0.5 / 1, 2: -0.5 / 3}),
        ({"floor": 0.5}, {0: 1.0 / 2, 1: 0.5 / 1.5, 2: -0.5 / 3}),
        ({"per": "own_s"}, {0: 1.0, 1: 0.5 / 2, 2: -0.5 / 6}),
        ({"per": "round_s"}, {0: 1.0 / 6, 1: 0.5 / 6, 2: -0.5 / 6}),
        ({"per": "one"}, {0: 1.0, 1: 0.5, 2: -0.5}),
        # mean loss 2, then (10 + 15 + 50) / 40 = 1.875
        ({"value": "global_loss"}, {0: 0.125 / 2, 1: 0.125, 2: 0.125 / 3}),
        ({"per": "one", "normalise": "minmax"}, {0: 1.0, 1: 1.0 / 1.5, 2: 0.0}),
        ({"per": "one", "normalise": "rank"}, {0: 1.0, 1: 0.5, 2: 0.0}),
        (
            {"per": "one", "normalise": "tanh"},
            {n: 0.5 + 0.5 * math.tanh(gain / (2 / 3)) for n, gain in enumerate((1.0, 0.5, -0.5))},
        ),
    ],
)
def test_by_hand(options, expected, make_state, make_report):
    assert rewards(make_state, make_report, **options) == pytest.approx(expected)


@pytest.mark.parametrize("normalise", ["minmax", "rank"])
def test_equal_rewards_count_a_half(normalise, make_state, make_report):
    losses = [{0: 2.0, 1: 2.0}, {0: 1.0, 1: 1.0}]
    earned = rewards(make_state, make_report, losses, per="one", normalise=normalise)
    assert earned == {0: 0.5, 1: 0.5}


def test_ties_share_their_rank(make_state, make_report):
    losses = [{0: 2.0, 1: 2.0, 2: 2.0}, {0: 1.0, 1: 1.0, 2: 1.5}]
    assert rewards(make_state, make_report, losses, per="one", normalise="rank") == {0: 0.75, 1: 0.75, 2: 0.0}


def test_who_failed_earns_the_worst(make_state, make_report):
    part = Reward(per="one", normalise="none")
    part.of_clients(make_state(0), [make_report(n, metrics={"train/loss": 1.0}) for n in range(2)])
    reports = [make_report(0, metrics={"train/loss": 1.5}), make_report(1, accepted=False)]
    earned = {report.client: reward for report, reward in part.of_clients(make_state(1), reports)}
    assert earned == {0: -0.5, 1: -0.5}


def test_a_round_is_compared_with_the_last_ones(make_state, make_report):
    """Losses 8, 4, 2, 1 in rounds of 1 s: falls 4, 2, 1; the first has nobody to compare with."""
    part, earned = Reward("global_loss", per="round_s", normalise="minmax"), []
    for round_idx, loss in enumerate((8.0, 4.0, 2.0, 3.0)):
        earned.append(part.of_round(make_state(round_idx), [make_report(0, metrics={"train/loss": loss})]))
    assert earned == [None, 0.5, 0.0, 0.0]
    again = Reward("global_loss", per="round_s", normalise="minmax")
    again.load_state_dict(part.state_dict())
    report = make_report(0, metrics={"train/loss": 0.5})  # falls by 2.5 among 4, 2, -1
    assert part.of_round(make_state(4), [report]) == again.of_round(make_state(4), [report]) == 3.5 / 5
    assert part.of_round(make_state(5), [make_report(0, accepted=False)]) == 0.0


def test_the_seconds_of_a_round_end_with_its_last_client(make_state, make_report):
    """A client that was sent off before the round began counts from the round's start."""
    part = Reward("global_loss", per="round_s", normalise="none")
    part.of_round(make_state(0), [make_report(0, metrics={"train/loss": 3.0})])
    reports = [make_report(0, 0.5, 7.0, finish_s=12.0, metrics={"train/loss": 1.0})]
    assert part.of_round(make_state(1, now_s=10.0), reports) == pytest.approx(1.0)


def test_wrong_options_are_refused():
    for option in ({"value": "luck"}, {"per": "day"}, {"normalise": "yes"}, {"floor": 0.0}, {"floor": math.nan}):
        with pytest.raises(ConfigError, match=next(iter(option))):
            Reward(**option)
