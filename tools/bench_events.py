"""What an event of the simulation costs: 100,000 clients that come and go, 1,000 jobs in flight, no training.

    python tools/bench_events.py [--clients 100000] [--jobs 1000] [--events 20000] [--traces]

An event is a job that is back or lost, with everything that follows but the training: the clock, the fleet's answers,
the selection of whoever takes its place, the price of its submodel, its index map. Prints the processor's milliseconds
per event, and the memory that the run holds for jobs and for clients: with all jobs in flight, and after the events.
With --traces clients come and go by a CSV file, written for the run with a trace for each of them, not by a formula.
"""

from __future__ import annotations

import argparse
import gc
import math
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedlight.algorithms import FedBuff
from fedlight.core.clock import Clock
from fedlight.core.dispatcher import Dispatcher
from fedlight.core.types import ClientData, FederatedData, RoundState
from fedlight.fleet import Availability, ChangingFleet, Daily, Drops, Phones, TraceAvailability
from fedlight.models import ConvNet
from fedlight.submodels import SubmodelPlan

BUFFER = 50
PIECE = 500  # events that are timed together
DAY_S = 60.0  # short, since jobs are: every other event finds somebody come or gone


INTERVALS = 10  # of a trace in a day


class Fifty(ClientData):
    """Fifty examples that nobody will ask for."""

    num_examples = 50
    num_batches = 5

    def epoch(self, generator: torch.Generator) -> Iterator[Any]:
        """Nothing is trained here."""
        raise NotImplementedError


class Counted(FederatedData):
    """So many clients with fifty examples each."""

    def __init__(self, num_clients: int) -> None:
        self._num_examples = np.full(num_clients, Fifty.num_examples)
        self._client = Fifty()

    @property
    def num_examples(self) -> np.ndarray:
        """int64[num_clients]."""
        return self._num_examples

    def client(self, client: int) -> ClientData:
        """Return the same for everyone."""
        return self._client

    def server(self) -> None:
        """Return None: the server holds nothing."""


class Simulation:
    """A server that waits for nobody, and never trains."""

    def __init__(self, num_clients: int, num_jobs: int, availability: Availability) -> None:
        self.clock = Clock()
        self._algorithm = FedBuff(buffer=BUFFER, concurrency=num_jobs)
        module, data = ConvNet(), Counted(num_clients)
        self._plan = SubmodelPlan.trace(module, module.example_input_array)
        fleet = ChangingFleet(Phones(), availability=availability, connectivity=Drops(0.1))
        fleet.setup(num_clients, seed=0)
        for part in self._algorithm.slots().values():
            part.meet(self._algorithm.slots())
        self._algorithm.schedule.check(num_clients)
        self._dispatcher = Dispatcher(self._algorithm, self._plan, data, fleet, self.clock)
        self._weights, self._sizes, self._round = module.state_dict(), data.num_examples, 0

    def play(self, num_events: int) -> int:
        """Let so many jobs, or some more, come to their end; return how many did."""
        done = 0
        while done < num_events:
            state = RoundState(
                self._round, 0, self.clock.now_s, self._plan, self._weights, self._sizes, self._dispatcher.price
            )
            self._dispatcher.begin()
            schedule = self._algorithm.schedule
            done += len(schedule.advance(self.clock, lambda count, state=state: self._dispatcher.send(state, count)))
            done += len(self.clock.take_lost())
            self._round += 1
        return done


def write_traces(path: Path, num_traces: int) -> None:
    """Write a day of so many clients, each up in intervals with random ends: half of the time on average."""
    edges_s = np.sort(np.random.default_rng(0).uniform(0.0, DAY_S, (num_traces, 2 * INTERVALS)), axis=1)
    with path.open("w") as file:
        file.write("trace,up_s,down_s\n")
        for trace, row in enumerate(edges_s):
            file.writelines(f"{trace},{up_s},{down_s}\n" for up_s, down_s in row.reshape(INTERVALS, 2))


def measure(num_clients: int, num_jobs: int, num_events: int, availability: Callable[[], Availability]) -> None:
    """Print one line."""
    simulation = Simulation(num_clients, num_jobs, availability())
    simulation.play(2 * num_jobs)
    done, costs_ms = 0, []
    while done < num_events:
        started = time.process_time()
        ended = simulation.play(PIECE)
        costs_ms.append(1e3 * (time.process_time() - started) / ended)
        done += ended
    per_event_ms, worst_ms = float(np.median(costs_ms)), max(costs_ms)
    del simulation
    gc.collect()
    tracemalloc.start()
    simulation = Simulation(num_clients, num_jobs, availability())
    simulation.play(1)
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    simulation.play(2 * num_jobs)
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    print(
        f"{num_clients:>7} clients, {num_jobs:>5} jobs: {per_event_ms:.3f} ms per event (median of {PIECE}s, worst "
        f"{worst_ms:.3f}) over {done} events; "
        f"{before / 2**20:.1f} MiB with all jobs in flight, {after / 2**20:.1f} MiB when each ended twice "
        f"(simulated {simulation.clock.now_s:.2g} s)",
        flush=True,
    )


def main() -> None:
    """Measure the asked for, and the same with ten times fewer clients, and with ten times fewer jobs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=100_000)
    parser.add_argument("--jobs", type=int, default=1_000)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--traces", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        availability: Callable[[], Availability] = partial(Daily, day_s=DAY_S)
        if arguments.traces:
            path = Path(folder) / "traces.csv"
            write_traces(path, arguments.clients)
            availability = partial(TraceAvailability, str(path))
        for clients, jobs in (
            (arguments.clients, arguments.jobs),
            (math.ceil(arguments.clients / 10), arguments.jobs),
            (arguments.clients, math.ceil(arguments.jobs / 10)),
        ):
            measure(clients, jobs, arguments.events, availability)


if __name__ == "__main__":
    main()
