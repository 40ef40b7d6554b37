"""An event costs as many calls whatever the number of clients and jobs, and the clock holds nothing but jobs."""

from collections import Counter

import numpy as np
import pytest
import torch
from toy import Batches, Regressor

from fedlight.algorithms import FedBuff
from fedlight.core.clock import Clock
from fedlight.core.dispatcher import Dispatcher
from fedlight.core.fleet import Fate, Fleet
from fedlight.core.types import FederatedData, RoundState, Timing
from fedlight.submodels import SubmodelPlan


class Watched(FederatedData, Fleet):
    """Data and devices that count what they are asked; every tenth job is lost."""

    def __init__(self, num_clients):
        self.calls = Counter()
        self._sizes = np.full(num_clients, 4)
        self._data = Batches(torch.zeros(4, 3), torch.zeros(4, 1))

    num_examples = property(lambda self: self._sizes)

    def client(self, client):
        self.calls["client"] += 1
        return self._data

    def server(self):
        return None

    def setup(self, num_clients, seed):
        pass

    def timing(self, client, work, round_idx):
        return Timing(0.1, 1.0 + client % 7, 0.1)

    def share(self, departure):
        self.calls["share"] += 1
        return 1.0

    def fate(self, departure, work):
        self.calls["fate"] += 1
        lost = (departure.client + departure.round_idx) % 10 == 0
        return Fate(self.timing(departure.client, work, 0), departure.now_s + 0.5 if lost else None, "dropped")

    def fits(self, client, cost):
        self.calls["fits"] += 1
        return True

    def energy_j(self, client, work):
        self.calls["energy_j"] += 1
        return 0.0

    def device(self, client):
        return "one"

    def candidates(self, now_s):
        self.calls["candidates"] += 1
        return range(len(self._sizes))


def play(num_clients, num_jobs, rounds=20):
    """Return the calls per event, the number of events, and the clock."""
    watched, clock, algorithm, module = Watched(num_clients), Clock(), FedBuff(concurrency=num_jobs), Regressor()
    plan = SubmodelPlan.trace(module, module.example_input_array)
    dispatcher = Dispatcher(algorithm, plan, watched, watched, clock)
    algorithm.schedule.check(num_clients)
    num_events = num_jobs
    for round_idx in range(rounds):
        state = RoundState(
            round_idx, 0, clock.now_s, plan, module.state_dict(), watched.num_examples, dispatcher.price
        )  # fmt: skip
        dispatcher.begin()
        num_events += len(algorithm.schedule.advance(clock, lambda count, state=state: dispatcher.send(state, count)))
        num_events += len(clock.take_lost())
    return watched.calls, num_events, clock


@pytest.mark.parametrize(("num_clients", "num_jobs"), [(100, 20), (20_000, 20), (20_000, 200)])
def test_calls_per_event_do_not_grow_with_clients_or_jobs(num_clients, num_jobs):
    calls, num_events, clock = play(num_clients, num_jobs)
    assert num_events >= num_jobs + 200
    for name in ("share", "fate", "fits", "energy_j"):
        assert calls[name] <= num_events
    assert calls["candidates"] <= num_events
    assert calls["client"] <= 2 * num_events
    assert len(clock) == len(clock.busy) <= num_jobs
    assert sum(len(value) for value in vars(clock).values() if hasattr(value, "__len__")) <= 2 * num_jobs
