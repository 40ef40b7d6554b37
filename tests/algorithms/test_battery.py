"""What every published method must stand: one battery for all of them, found by what fedlight.algorithms exports."""

import copy
import functools
import pickle
import subprocess
import sys
from pathlib import Path

import federation
import pytest
import torch
from federation import Convex, Speeds, five_clients, run
from same import assert_close, equal

import fedlight.algorithms
from fedlight.algorithms import FedAvg
from fedlight.core import Algorithm
from fedlight.core.seeds import SERVER, derive_seed
from fedlight.errors import ConfigError
from fedlight.parts import (
    ByScore,
    ConstantPace,
    EqualWork,
    HeldOutAccuracy,
    Judge,
    LeanLoop,
    RunningStatistics,
    SampleCount,
    Scored,
)

ROOT = Path(__file__).resolve().parents[2]
NAMES = list(fedlight.algorithms.__all__)

NEUTRAL = {
    "FedAvg": {},
    "FedDU": {"scale": 0.0},
    "FedDUAP": {"scale": 0.0, "ratio": 0.0},
    "FedLight": {"ratios": [0.0], "moving_average": 1 - 1e-12},
    "FedLightMask": {"ratios": [0.0], "moving_average": 1 - 1e-12},
    "FedMP": {"max_ratio": 0.0},
    "FedProx": {"mu": 0.0, "work": EqualWork()},
    "FlexCom": {"min_level": 1.0},
    "FedNova": {},
    "FedPace": {"pace": ConstantPace(0.0, "slowest"), "start_ratio": 0.0, "contribution": SampleCount()},
    "HeteroFL": {"levels": [0.0], "norm": RunningStatistics(), "local": LeanLoop()},
    "PruneFL": {"initial_rounds": 0},
    "RandomRatio": {"ratios": [0.0]},
    "SpeedRatio": {"min_ratio": 0.0, "max_ratio": 0.0},
    "SynFL": {},
    "UPFL": {"ratio": 0.0},
}
"""The setting at which a method is FedAvg, where all clients hold equally many examples."""

NEVER_NEUTRAL = {
    "CGSV": "every update has length Γ, so a round is no mean of updates",
    "FedAsync": "a round is one client",
    "FedBuff": "fast clients come more often; where all are equally fast it is FedAvg (tests/parts/test_schedule.py)",
}
"""Why a method is FedAvg at no setting."""

PERMUTED = {"HeteroFL": {"mode": "dynamic"}, "PruneFL": {"initial_rounds": 0, "prune_every": 2}}
"""Settings under which every draw belongs to a client: static levels are dealt out to all clients by one draw, and
PruneFL draws who goes first."""

every_algorithm = pytest.mark.parametrize("name", NAMES)


def make(name, **options):
    return getattr(fedlight.algorithms, name)(**options)


def make_small(name, count=4):
    return make(name, **{federation.size_key(name): count})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Runs an algorithm for all rounds, once; returns the server and the folder of its checkpoints."""

    @functools.cache
    def whole(name):
        folder = tmp_path_factory.mktemp(name)
        return run(make_small(name), folder=folder), folder

    return whole


@every_algorithm
@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_runs_and_resumes_bit_for_bit(name, finished, tmp_path):
    server, folder = finished(name)
    assert server.round_idx == federation.ROUNDS
    assert server.clock.now_s > 0
    run(make_small(name), folder=tmp_path, resume=folder / "step=2.ckpt")
    whole, resumed = (
        torch.load(where / f"step={federation.ROUNDS}.ckpt", weights_only=True) for where in (folder, tmp_path)
    )
    for key in ("state_dict", "optimizer_states", "fedlight"):
        assert equal(whole[key], resumed[key]), key


@every_algorithm
def test_copies_and_pickles_fresh_and_used(name, finished):
    for one in (make(name), finished(name)[0].algorithm):
        for other in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):  # noqa: S301 - our own bytes
            assert type(other) is type(one)
            assert equal(
                {slot: part.state_dict() for slot, part in other.slots().items()},
                {slot: part.state_dict() for slot, part in one.slots().items()},
            )


class Deep(federation.Classifier):
    """Two convolutions, the second with more than one channel in."""

    def __init__(self, memory_format):
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(1, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 3), torch.nn.BatchNorm2d(16)
        )
        self.head = torch.nn.Linear(16, 3)
        self.to(memory_format=memory_format)

    def forward(self, images):
        return self.head(self.body(images).mean((2, 3)))


@every_algorithm
def test_the_memory_format_changes_nothing(name):
    plain, last = (
        run(make_small(name), rounds=3, module=functools.partial(Deep, memory_format))
        for memory_format in (torch.contiguous_format, torch.channels_last)
    )
    assert not last.client.body[2].weight.is_contiguous()
    assert_close(last.state_dict(), plain.state_dict(), 1e-4)
    assert last.clock.now_s == plain.clock.now_s


def test_the_memory_format_changes_no_score():
    """The one measure that puts an update into weights of the format in which the module lies."""
    plain, last = (
        run(
            make("FedPace", contribution=Scored(HeldOutAccuracy(Judge("val/loss")), ByScore())),
            rounds=3,
            module=functools.partial(Deep, memory_format),
        )
        for memory_format in (torch.contiguous_format, torch.channels_last)
    )
    assert_close(last.state_dict(), plain.state_dict(), 1e-4)


def loss_of(module):
    """Mean loss over all clients' examples."""
    data = five_clients()
    batches = [
        batch for client in range(federation.NUM_CLIENTS) for batch in data.client(client).epoch(torch.Generator())
    ]
    images, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
    with torch.no_grad():
        return float(torch.nn.functional.cross_entropy(module(images), targets))


@every_algorithm
def test_loss_falls_on_a_convex_problem(name):
    torch.manual_seed(0)
    before = loss_of(Convex())
    assert loss_of(run(make(name), rounds=8, module=Convex).client) < 0.7 * before


def test_every_algorithm_is_fedavg_somewhere_or_says_why_not():
    assert sorted([*NEUTRAL, *NEVER_NEUTRAL]) == sorted(NAMES)


@pytest.fixture(scope="module")
def fedavg():
    return run(FedAvg(), data=five_clients(equal=True)).state_dict()


@pytest.mark.parametrize("name", NEUTRAL)
def test_at_its_neutral_setting_it_is_fedavg(name, fedavg):
    assert_close(run(make(name, **NEUTRAL[name]), data=five_clients(equal=True)).state_dict(), fedavg)


ORDER = (3, 0, 4, 1, 2)
"""Client k of the relabelled federation is client ORDER[k] of the other."""


@every_algorithm
def test_relabelling_clients_changes_nothing(name, monkeypatch):
    """Data, devices and random streams go with the client; what is left is the order of sums."""
    expected = run(make(name, **PERMUTED.get(name, {})))
    speeds = [Speeds().speeds[client] for client in ORDER]
    data = five_clients()
    clients, sizes = [data.client(client) for client in ORDER], data.num_examples[list(ORDER)]
    monkeypatch.setattr(type(data), "client", lambda _, client: clients[client])
    monkeypatch.setattr(type(data), "num_examples", property(lambda _: sizes))

    def seed_of_the_same_client(seed, round_idx, client, purpose):
        return derive_seed(seed, round_idx, client if client == SERVER else ORDER[client], purpose)

    monkeypatch.setattr("fedlight.core.seeds.derive_seed", seed_of_the_same_client)
    monkeypatch.setattr("fedlight.core.client.derive_seed", seed_of_the_same_client)
    monkeypatch.setattr("fedlight.core.cohort.derive_seed", seed_of_the_same_client)
    server = run(make(name, **PERMUTED.get(name, {})), data=data, fleet=Speeds(speeds))
    assert_close(server.state_dict(), expected.state_dict())
    assert server.clock.now_s == pytest.approx(expected.clock.now_s)


def test_no_two_algorithms_do_the_same(finished):
    """Else the federation would be too small to tell them apart, and the tests here say nothing."""
    weights = [torch.cat([value.detach().flatten() for value in finished(name)[0].parameters()]) for name in NAMES]
    gaps = {
        (NAMES[j], NAMES[i]): float((weights[i] - weights[j]).abs().max()) for i in range(len(NAMES)) for j in range(i)
    }
    assert not {names: gap for names, gap in gaps.items() if gap < 1e-5}


def test_two_processes_equal_one(finished, tmp_path):
    """One pair of processes for all algorithms: starting them is what costs."""
    command = [sys.executable, federation.__file__, str(tmp_path / "weights.pt"), "--processes", "2"]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    shared = torch.load(tmp_path / "weights.pt", weights_only=True)
    assert list(shared) == NAMES
    for name, weights in shared.items():
        assert equal(weights, dict(finished(name)[0].state_dict())), name


@every_algorithm
def test_refuses_a_cohort_larger_than_the_fleet(name):
    refusal = f"{federation.size_key(name)}=9 is larger than the fleet of num_clients=5"
    with pytest.raises(ConfigError, match=refusal):
        make_small(name, 9).schedule.check(5)


ELSEWHERE = {"FedAvg": "tests/core/test_server.py", "HeteroFL": "tests/algorithms/test_heterofl.py"}
"""Twins of methods whose tests hold more than that."""


@every_algorithm
def test_has_a_twin_in_plain_loops(name):
    twin = (ROOT / ELSEWHERE.get(name, f"tests/algorithms/twins/test_{name.lower()}.py")).read_text()
    assert f"import {name}" in twin or f", {name}" in twin


@every_algorithm
def test_is_one_short_final_class_with_a_card_and_configs(name):
    algorithm, file = getattr(fedlight.algorithms, name), name.lower()
    assert algorithm.__module__ == f"fedlight.algorithms.{file}"
    assert algorithm.__mro__[1] is Algorithm
    assert {key for key in vars(algorithm) if callable(vars(algorithm)[key])} == {"__init__"}
    assert getattr(algorithm, "__final__", False)
    assert "Differs from" in algorithm.__doc__
    assert len((ROOT / f"fedlight/algorithms/{file}.py").read_text().splitlines()) <= 120
    assert "1." in (ROOT / f"docs/algorithms/{file}.md").read_text()
    assert {path.name for path in ROOT.glob(f"configs/{file}_*.yaml")} >= {
        f"{file}_fashion_mnist.yaml",
        f"{file}_cifar10.yaml",
    }
