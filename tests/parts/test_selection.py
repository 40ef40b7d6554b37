import numpy as np

from fedlight.parts.selection import UniformSelection


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
