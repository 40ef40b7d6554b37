import numpy as np
import pytest

from fedlight.errors import ConfigError
from fedlight.parts.selection import ByContribution, UniformSelection


def test_draws_different_clients_out_of_the_candidates(make_state):
    cohort = UniformSelection().select(make_state(), [3, 5, 7, 11, 13], 3)
    assert len(set(cohort)) == 3
    assert set(cohort) <= {3, 5, 7, 11, 13}


def test_takes_everyone_when_there_are_too_few(make_state):
    assert sorted(UniformSelection().select(make_state(), [3, 5], 4)) == [3, 5]
    assert UniformSelection().select(make_state(), [], 4) == []


def test_the_draw_depends_on_seed_and_round_alone(make_state):
    first, second = UniformSelection(), UniformSelection()
    for round_idx in range(3):
        state = make_state(round_idx, seed=9)
        assert first.select(state, range(100), 10) == second.select(state, range(100), 10)
    resumed = UniformSelection()
    assert resumed.select(make_state(2, seed=9), range(100), 10) == UniformSelection().select(
        make_state(2, seed=9), range(100), 10
    )
    assert resumed.select(make_state(3, seed=9), range(100), 10) != UniformSelection().select(
        make_state(2, seed=9), range(100), 10
    )


def test_asking_again_within_a_round_is_a_new_draw(make_state):
    selection, state = UniformSelection(), make_state()
    assert selection.select(state, range(100), 10) != selection.select(state, range(100), 10)


def test_every_client_is_drawn_equally_often(make_state):
    selection = UniformSelection()
    counts = np.bincount(
        [client for t in range(2000) for client in selection.select(make_state(t), range(10), 3)], minlength=10
    )
    assert np.abs(counts - 600).max() < 5 * np.sqrt(2000 * 0.3 * 0.7)


class Counting:
    """A hundred thousand candidates that count how many of them were looked at."""

    def __init__(self):
        self.looked_at = 0

    def __len__(self):
        return 100_000

    def __getitem__(self, index):
        self.looked_at += 1
        return index


def test_only_the_chosen_of_many_candidates_are_looked_at(make_state):
    candidates = Counting()
    assert len(set(UniformSelection().select(make_state(0), candidates, 50))) == 50
    assert candidates.looked_at == 50


def drawn(part, make_state, contributions, rounds=3000, count=1):
    chosen = [
        client
        for t in range(rounds)
        for client in part.select(make_state(t, contributions=contributions), range(len(contributions) or 4), count)
    ]
    return np.bincount(chosen, minlength=4) / rounds


def test_by_contribution_the_odds_are_those_of_a_softmax(make_state):
    """Scores 0 and 2 have mean 1, deviation 1: log odds -1 and 1 at temperature 1, so e² to 1."""
    part = ByContribution(temperature=1.0, epsilon=0.0)
    shares = drawn(part, make_state, {0: 0.0, 1: 2.0})
    assert abs(shares[1] - np.exp(2) / (1 + np.exp(2))) < 0.03


def test_by_contribution_epsilon_leaves_draws_to_chance(make_state):
    shares = drawn(ByContribution(temperature=0.01, epsilon=0.4), make_state, {0: 0.0, 1: 1.0, 2: 2.0, 3: 3.0})
    assert np.abs(shares - [0.1, 0.1, 0.1, 0.7]).max() < 0.04
    even = drawn(ByContribution(temperature=0.01, epsilon=1.0), make_state, {0: 0.0, 1: 1.0, 2: 2.0, 3: 3.0})
    assert np.abs(even - 0.25).max() < 0.04


def test_by_contribution_newcomers_have_the_odds_of_the_best(make_state):
    part = ByContribution(temperature=0.01, epsilon=0.0)
    chosen = {part.select(make_state(t, contributions={0: 0.0, 1: 1.0}), range(3), 1)[0] for t in range(60)}
    assert chosen == {1, 2}
    even = drawn(ByContribution(), make_state, {})  # nobody has a score yet
    assert np.abs(even - 0.25).max() < 0.04


def test_by_contribution_draws_different_clients_the_same_each_time(make_state):
    state = make_state(3, contributions={n: float(n) for n in range(20)})
    first, second = ByContribution(), ByContribution()
    cohort = first.select(state, range(20), 8)
    assert len(set(cohort)) == 8
    assert cohort == second.select(state, range(20), 8)
    assert cohort != first.select(state, range(20), 8)  # asked again within a round
    assert sorted(ByContribution().select(state, [3, 5], 4)) == [3, 5]
    assert ByContribution().select(state, [], 4) == []


def test_by_contribution_refuses_wrong_options():
    for option in ({"temperature": 0.0}, {"epsilon": 1.5}, {"epsilon": float("nan")}):
        with pytest.raises(ConfigError, match=next(iter(option))):
            ByContribution(**option)
