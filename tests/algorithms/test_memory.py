"""No client is ever sent more than its memory holds, whatever the method."""

import federation
import pytest
from federation import run
from torch import nn

import fedlight.algorithms
from fedlight.core.clock import Clock
from fedlight.fleet import DeviceClass, DeviceFleet
from fedlight.fleet.devices import training_bytes
from fedlight.parts import Channels, Weights

NAMES = list(fedlight.algorithms.__all__)


class Two(federation.Classifier):
    """Two groups of channels, the second of which holds most of the weights."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 40, 3), nn.ReLU())
        self.head = nn.Linear(40, 3)

    def forward(self, images):
        return self.head(self.body(images).mean((2, 3)))


FULL_BYTES = 12 * sum(parameter.numel() for parameter in Two().parameters())  # weights, gradients, momentum


def four_small(share):
    """Five clients, four of which have this share of the memory that the full model needs."""
    small = DeviceClass("small", 4, 1e6, 1e6, 1e6, memory_bytes=share * FULL_BYTES)
    return DeviceFleet([small, DeviceClass("large", 1, 1e6, 1e6, 1e6)])


@pytest.fixture
def sent(monkeypatch):
    """All jobs that are put in flight."""
    jobs, push = [], Clock.push

    def recording(clock, job):
        jobs.append(job)
        push(clock, job)

    monkeypatch.setattr(Clock, "push", recording)
    return jobs


def to_small(server, jobs, share=0.4):
    """Return the jobs of small clients; none may be larger than the memory."""
    small = [job for job in jobs if server.fleet.device(job.client) == "small"]
    costs = [server.algorithm.extraction.cost_of(server.plan, job.coverage) for job in small]
    assert max(map(training_bytes, costs), default=0) <= share * FULL_BYTES
    return small


def large(server):
    return next(client for client in range(5) if server.fleet.device(client) == "large")


@pytest.mark.parametrize("name", NAMES)
def test_no_method_sends_more_than_fits(name, sent):
    server = run(getattr(fedlight.algorithms, name)(), rounds=3, module=Two, fleet=four_small(0.4))
    small = to_small(server, sent)
    assert sent
    if not server.algorithm.extraction.shared:  # what all share isn't cut for one of them
        assert {job.client for job in small} == {job.client for job in sent} - {large(server)}


@pytest.mark.parametrize(
    ("name", "extraction"),
    [("FedLight", Channels(scope="global", round_to=1)), ("FedLightMask", Weights(scope="global"))],
)
def test_a_map_drawn_over_all_layers_is_priced_by_what_it_is(name, extraction, sent):
    algorithm = getattr(fedlight.algorithms, name)()
    algorithm.extraction = extraction
    assert len({job.client for job in to_small(run(algorithm, rounds=3, module=Two, fleet=four_small(0.4)), sent)}) == 4


def test_a_map_for_all_is_drawn_at_its_own_round_and_fits_from_then_on(sent):
    algorithm = fedlight.algorithms.FedDUAP(ratio=0.5, prune_round=2)
    server = run(algorithm, rounds=4, module=Two, fleet=four_small(0.8))
    assert {job.round_idx for job in to_small(server, sent, 0.8)} == {2, 3}
    maps = {job.coverage.keep.numpy().tobytes() for job in sent if job.round_idx >= 2}
    assert len(maps) == 1
    assert all(job.coverage.is_full for job in sent if job.round_idx < 2)


def test_one_who_is_left_out_keeps_no_map():
    algorithm = fedlight.algorithms.PruneFL(initial_rounds=0)
    server = run(algorithm, rounds=2, module=Two, fleet=four_small(0.4))
    lasts = [algorithm.extraction.last(server.plan, client) for client in range(5)]
    assert [client for client, last in enumerate(lasts) if last is not None] == [large(server)]
    assert sorted(server.last_round.unfit) == [client for client in range(5) if client != large(server)]
