"""Settings at which one method is another."""

import pytest
import torch
from plain_submodels import run, start
from toy import ToyData

from fedlight.algorithms import UPFL, FedAvg, FedMP, FedPace, RandomRatio, SpeedRatio, SynFL
from fedlight.parts import ConstantPace, Fixed, SampleCount, Uniform


class EqualData(ToyData):
    """Four examples each."""

    def __init__(self):
        super().__init__()
        for client in self.clients:
            client.x, client.y = client.x[:4], client.y[:4]


def assert_same(algorithm, other, rounds=3, **options):
    expected = run(other, rounds, **options).client.state_dict()
    for name, value in run(algorithm, rounds, **options).client.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "make",
    [SynFL, lambda: FedMP(max_ratio=0.0), lambda: UPFL(ratio=0.0), lambda: UPFL(mode="bandit", max_ratio=0.0)],
    ids=["SynFL", "FedMP", "UPFL", "UPFL bandit"],
)
def test_with_nothing_removed_it_is_fedavg_of_clients_that_count_alike(make):
    assert_same(make(), FedAvg(), data=EqualData())
    uniform = FedAvg()
    uniform.contribution = Uniform()
    assert_same(make(), uniform)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomRatio(ratios=[0.0]),
        lambda: FedPace(pace=ConstantPace(0.0, "slowest"), start_ratio=0.0, contribution=SampleCount()),
    ],
    ids=["RandomRatio", "FedPace"],
)
def test_with_nothing_removed_it_is_fedavg(make):
    assert_same(make(), FedAvg())


@pytest.mark.parametrize("ratio", [0.3, 0.7])
def test_upfl_is_fedmp_with_a_common_ratio(ratio):
    common = FedMP()
    common.ratio = Fixed(ratio)
    assert_same(UPFL(ratio=ratio), common)


def test_fedpace_at_a_constant_pace_is_speedratio():
    """Up to the weights and the ratio of the first round."""
    assert_same(
        FedPace(pace=ConstantPace(0.3), start_ratio=0.5, contribution=SampleCount()), SpeedRatio(min_ratio=0.3), 5
    )


@pytest.mark.parametrize("make", [FedMP, lambda: UPFL(ratio=0.5), lambda: UPFL(mode="bandit")])
def test_recovery_without_a_step_is_the_identity(make):
    server = run(make(), rounds=3, lr=0.0)
    assert any(report.ratio > 0 for told in server.told for report in told.values())
    for name, value in server.client.state_dict().items():
        assert torch.equal(value.double(), start()[name])


def test_fedmp_keeps_floor_counts():
    """⌊16 · (1 - α)⌋ units of 16, one at least."""
    for ratio, count in ((0.1, 14), (0.3, 11), (0.5, 8), (0.9, 1), (0.95, 1)):
        server = run(UPFL(ratio=ratio), rounds=1)
        assert int(server.algorithm.extraction.last(server.plan, 0).keep.sum()) == count
