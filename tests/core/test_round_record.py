"""What a round's scalars say of its clients."""

import pytest

from fedlight.core.round_record import RoundRecord
from fedlight.core.types import Report, Timing, Work


def report(client, weight, num_examples, ratio, contribution, accepted=True):
    return Report(
        client=client, round_idx=0, ratio=ratio, work=Work(1.0, 1, 1), timing=Timing(0.0, 1.0, 0.0), finish_s=1.0,
        num_examples=num_examples, metrics={}, weight=weight, contribution=contribution, accepted=accepted,
        upload_bytes=1,
    )  # fmt: skip


def correlations(*reports):
    scalars = RoundRecord(0, reports, {}, 0.0, 1.0, 0.1).scalars()
    return {tag: value for tag, value in scalars.items() if "_vs_" in tag}


def test_what_scores_and_weights_go_with():
    """Weights are the examples; scores fall as clients keep more, and have nothing to do with the examples."""
    told = correlations(
        report(0, 0.1, 10, 0.0, -1.0),
        report(1, 0.2, 20, 0.5, 1.0),
        report(2, 0.3, 30, 0.5, 1.0),
        report(3, 0.4, 40, 0.0, -1.0),
        report(4, 0.0, 99, 0.9, 0.3, accepted=False),
    )
    assert told == pytest.approx(
        {
            "contribution/weight_vs_examples": 1.0,
            "contribution/weight_vs_kept": 0.0,
            "contribution/score_vs_examples": 0.0,
            "contribution/score_vs_kept": -1.0,
        }
    )


def test_what_is_the_same_for_all_goes_with_nothing():
    told = correlations(*(report(n, 0.25, 10 + n, 0.5, float(n)) for n in range(4)))
    assert told == {"contribution/score_vs_examples": pytest.approx(1.0)}
    assert correlations(*(report(n, 0.5, 10 + n, 0.5, float(n)) for n in range(2))) == {}  # two points are a line
    assert correlations(*(report(n, 0.1 * n, 10 + n, 0.1 * n, None) for n in range(4))) == {}
