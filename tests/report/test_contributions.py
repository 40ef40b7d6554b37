"""Clients whose data are known to be bad, scored by measures that find them, half find them, and are wrong."""

import math

import pandas as pd
import pytest
from scipy import stats
from synthetic_runs import write_run

from fedlight.report import PAGE, write_report
from fedlight.report.contributions import largest_correlation, rank_correlation

# Scores of clients 0 to 4 whose labels are wrong by these shares; by seed.
NOISE = [0.0, 0.0, 0.0, 0.4, 0.9]
RIGHT = {0: [5.0, 4.0, 3.0, 2.0, 1.0], 1: [3.0, 5.0, 4.0, 2.0, 1.0], 2: [4.0, 3.0, 5.0, 1.0, 2.0]}
# Ranks of NOISE: 2, 2, 2, 4, 5, sum of squares about their mean 3: 8; of scores without ties: 10.
RHO = {0: -8 / math.sqrt(80), 1: -8 / math.sqrt(80), 2: -7 / math.sqrt(80)}


def write_clients(folder, noise):
    lines = [f"{client},9,0.1,{level}" for client, level in enumerate(noise)]
    (folder / "version_0" / "clients.csv").write_text("\n".join(["client,examples,js_distance,label_noise", *lines]))


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")
    for seed in range(3):
        plain = write_run(folder, "SynFL", seed, [0.5, 0.6], [10.0, 20.0])
        # A client's score is its mean over rounds: the first round's order is another.
        scores = {f"contribution/{client}": [9.0 * client - score, 3 * score - 9.0 * client]
                  for client, score in enumerate(RIGHT[seed])}  # fmt: skip
        right = write_run(folder, "right", seed, [0.5, 0.6], [10.0, 20.0], **scores)
        same = {f"contribution/{client}": [1.0, 1.0] for client in range(5)}
        blind = write_run(folder, "blind", seed, [0.5, 0.6], [10.0, 20.0], **same)
        for run in (plain, right, blind):
            write_clients(run, NOISE)
    write_report(folder)
    return folder


def test_rank_correlation_by_hand_mean_over_seeds(out):
    text = (out / "tables" / "contributions.md").read_text()
    half = stats.t.ppf(0.975, 2) * stats.sem(list(RHO.values()))
    assert "| variant | label noise, ρ of contribution with |" in text
    assert f"| right | {sum(RHO.values()) / 3:.2f} ± {half:.2f} |".replace("-", "−") in text
    assert "| blind | – |" in text
    assert "SynFL" not in text  # it has no scores


def test_the_table_says_how_far_ties_let_one_get(out):
    # One group of three equals among five: 1 - (27 - 3) / (125 - 5) = 0.8.
    assert "no order of them reaches more than 0.89 either way" in (out / "tables" / "contributions.md").read_text()
    assert "Rank correlation of contribution and data quality" in (out / PAGE).read_text()


def test_every_seed_is_set_against_its_own_clients(tmp_path):
    for seed, noise in enumerate((NOISE, NOISE[::-1])):
        order = RIGHT[0] if seed == 0 else RIGHT[0][::-1]
        scores = {f"contribution/{client}": [score] for client, score in enumerate(order)}
        write_clients(write_run(tmp_path, "FedMP", seed, [0.5], [10.0], **scores), noise)
    write_report(tmp_path)
    assert "| FedMP | −0.89 ± 0.00 |" in (tmp_path / "tables" / "contributions.md").read_text()


@pytest.mark.parametrize(
    ("scores", "quality"), [([1.0, 2.0], [1.0, 2.0]), ([1.0] * 3, [1.0, 2.0, 3.0]), ([1.0, 2.0, 3.0], [4.0] * 3)]
)
def test_nothing_to_rank_has_no_correlation(scores, quality):
    assert rank_correlation(pd.Series(scores), pd.Series(quality)) is None


def test_clients_without_a_score_are_left_out():
    assert rank_correlation(pd.Series([3.0, 2.0, 1.0], ["0", "2", "3"]), pd.Series([1, 7, 2, 3], list("0123"))) == -1


@pytest.mark.parametrize("quality", [[0, 0, 0, 0.4, 0.9], [1, 1, 2, 2, 3], [1, 2, 3]])
def test_largest_correlation_is_that_of_the_best_order(quality):
    known = pd.Series(quality)
    assert largest_correlation(known) == pytest.approx(rank_correlation(pd.Series(range(len(known))), known))
