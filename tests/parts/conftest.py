"""A model of two prunable groups that is small enough to check by hand.

``a.weight`` [4, 2] - units 0..3 own its rows; ``a.bias`` [4] likewise; ``stat`` [4] is a float buffer of theirs;
``b.weight`` [6, 4, 1] - units 4..9 own dim 0, units 0..3 own dim 1; ``c.weight`` [3, 6] - units 4..9 own dim 1;
``c.bias`` [3] and the integer buffer ``steps`` belong to nobody.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fedlight.core.types import Report, RoundState, Timing, Update, Work
from fedlight.submodels import ChannelCoverage
from fedlight.submodels.keep import choose
from fedlight.submodels.structure import Cost, Group, Structure

SHAPES = {
    "a.weight": (4, 2), "a.bias": (4,), "stat": (4,), "b.weight": (6, 4, 1), "c.weight": (3, 6), "c.bias": (3,),
    "steps": (),
}  # fmt: skip
A, B = torch.arange(4), torch.arange(4, 10)


def make_structure() -> Structure:
    first = Group("a", "channels", 0, 4, 1, (("a.weight", 0), ("a.bias", 0), ("stat", 0), ("b.weight", 1)))
    second = Group("b", "channels", 4, 6, 1, (("b.weight", 0), ("c.weight", 1)))
    axes = {
        "a.weight": (A, None), "a.bias": (A,), "stat": (A,), "b.weight": (B, A, None), "c.weight": (None, B),
    }  # fmt: skip
    return Structure(groups=(first, second), axes=axes, shapes=SHAPES)


@dataclass
class HandPlan:
    """What parts use of a plan; forward MACs are the number of kept weights."""

    structure: Structure = field(default_factory=make_structure)

    @property
    def groups(self) -> tuple[Group, ...]:
        return self.structure.groups

    @property
    def num_units(self) -> int:
        return self.structure.num_units

    def keep(self, scores: torch.Tensor, ratio: Any, **options: Any) -> torch.Tensor:
        return choose(self.groups, scores, ratio, **options)

    @property
    def costs(self) -> Any:
        return SimpleNamespace(
            cost_of_counts=self.cost_of_counts, macs_per_entry={"a.weight": 1.0, "b.weight": 1.0, "c.weight": 1.0}
        )

    def cost(self, keep: torch.Tensor) -> Cost:
        return self.cost_of_counts([int(keep[:4].sum()), int(keep[4:].sum())])

    def cost_of_counts(self, counts: Any) -> Cost:
        a, b = (int(count) for count in counts)
        macs = 2 * a + a * b + 3 * b
        return Cost(parameters=macs + a + 3, macs=macs, num_bytes=4 * (macs + 2 * a + 3))


@pytest.fixture
def plan() -> HandPlan:
    return HandPlan()


def make_weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    values = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    return values | {"steps": torch.tensor(7)}


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    return make_weights()


@pytest.fixture
def make_state(plan, weights):
    """Return a function that makes a round state; 100 clients hold 10, 11, 12, ... examples."""

    def make(round_idx: int = 0, seed: int = 0, price: Any = None, **changes: Any) -> RoundState:
        def by_kept_fraction(client: int, ratio: float) -> Work:
            num_bytes = int(1000 * (1 - ratio))
            return Work(macs=3000.0 * (1 - ratio) ** 2, download_bytes=num_bytes, upload_bytes=num_bytes)

        values: dict[str, Any] = {
            "round_idx": round_idx, "seed": seed, "now_s": 0.0, "plan": plan, "weights": weights,
            "num_examples": np.arange(10, 110), "price": price or by_kept_fraction,
        }  # fmt: skip
        return RoundState(**(values | changes))

    return make


def random_update(coverage: Any, client: int = 0, seed: int = 0, **changes: Any) -> Update:
    """Random values in the shape of a coverage."""
    generator = torch.Generator().manual_seed(1000 * seed + client)

    def draw(names: tuple[str, ...]) -> dict[str, torch.Tensor]:
        return {name: torch.randn(coverage.thin_shape(name), generator=generator) for name in names}

    values: dict[str, Any] = {
        "client": client, "num_examples": 10 + client, "num_steps": 1,
        "delta": draw(("a.weight", "a.bias", "b.weight", "c.weight", "c.bias")), "buffers": draw(("stat",)),
        "statistics": {}, "metrics": {}, "upload_bytes": 0,
    }  # fmt: skip
    return Update(**(values | changes))


@pytest.fixture
def make_update():
    """Return a function that makes an update of random values in the shape of a coverage."""
    return random_update


@pytest.fixture
def make_report():
    """Return a function that makes a report."""

    def make(client: int = 0, ratio: float = 0.0, total_s: float = 1.0, **changes: Any) -> Report:
        values: dict[str, Any] = {
            "client": client, "round_idx": 0, "ratio": ratio, "work": Work(3000.0, 1000, 1000),
            "timing": Timing(0.0, total_s, 0.0), "finish_s": total_s, "num_examples": 10, "metrics": {}, "weight": 1.0,
            "contribution": None, "accepted": True, "upload_bytes": 1000,
        }  # fmt: skip
        return Report(**(values | changes))

    return make


@pytest.fixture
def alone():
    """Return the reduction of a run of one process, which does nothing."""
    return lambda tensor: None


@pytest.fixture
def two_processes():
    """Return a function that runs ``body(rank, reduce)`` in two threads whose ``reduce`` sums over both."""

    def run(body: Any) -> list[Any]:
        barrier, slots, results = threading.Barrier(2, timeout=10), [None, None], [None, None]

        def rank_main(rank: int) -> None:
            def reduce(tensor: torch.Tensor) -> None:
                slots[rank] = tensor.clone()
                barrier.wait()
                assert slots[0].shape == slots[1].shape
                tensor.copy_(slots[0] + slots[1])
                barrier.wait()

            results[rank] = body(rank, reduce)

        threads = [threading.Thread(target=rank_main, args=(rank,)) for rank in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert None not in results
        return results

    return run


@pytest.fixture(scope="module")
def arrivals_of_module():
    """A state and four updates that are read only, for tests that run many examples."""
    plan = HandPlan()
    state = RoundState(0, 0, 0.0, plan, make_weights(), np.arange(10, 110), lambda client, ratio: Work(1.0, 1, 1))
    arrivals = []
    for client, units in enumerate([range(10), (0, 1, 4, 5, 6), (0, 3, 4, 9), (1, 2, 3, 5, 7, 8)]):
        keep = torch.zeros(10, dtype=torch.bool)
        keep[list(units)] = True
        coverage = ChannelCoverage(plan.structure, keep)
        arrivals.append((coverage, random_update(coverage, client), 1.0 + client))
    return state, arrivals


@pytest.fixture(scope="module")
def settled():
    """A plan and a function from round to state, for tests that run many examples."""
    plan = HandPlan()

    def make(round_idx: int) -> RoundState:
        return RoundState(round_idx, 0, 0.0, plan, make_weights(), np.arange(10, 110), lambda *_: Work(1.0, 1, 1))

    return plan, make
