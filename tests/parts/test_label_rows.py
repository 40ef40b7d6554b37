"""Rows of the classifier are averaged over the clients that own their label: by hand, and against plain loops."""

import numpy as np
import pytest
import torch
from torch import nn

from fedlight.core.types import Job, RoundState, Timing, Update, Work
from fedlight.parts.aggregation import CoverageMean
from fedlight.submodels import MaskCoverage, SubmodelPlan

NUM_CLASSES, NUM_UNITS = 4, 3


@pytest.fixture(scope="module")
def net():
    return nn.Sequential(nn.Linear(2, NUM_UNITS), nn.ReLU(), nn.Linear(NUM_UNITS, NUM_CLASSES))


@pytest.fixture(scope="module")
def plan(net):
    return SubmodelPlan.trace(net, torch.randn(2, 2, generator=torch.Generator().manual_seed(0)))


@pytest.fixture
def state(plan, net):
    return RoundState(0, 0, 0.0, plan, net.state_dict(), np.array([1, 1]), lambda *_: Work(0.0, 0, 0))


def cover(plan, kept):
    keep = torch.zeros(NUM_UNITS, dtype=torch.bool)
    keep[list(kept)] = True
    return plan.coverage(keep)


def labels(*own):
    return torch.tensor([label in own for label in range(NUM_CLASSES)])


def update_of(delta, own):
    return Update(0, 1, 1, delta, {}, {}, {}, 0, own)


def random_update(coverage, seed, own):
    generator = torch.Generator().manual_seed(seed)
    names = ("0.weight", "0.bias", "2.weight", "2.bias")
    return update_of({name: torch.randn(coverage.thin_shape(name), generator=generator) for name in names}, own)


def merge(aggregation, state, arrivals, own=None, reduce=lambda tensor: None):
    """Merge the arrivals of one process, by default all of them."""
    jobs = [Job(0, 0, 0.0, coverage, Work(0.0, 0, 0), Timing(0.0, 1.0, 0.0), 0.0) for coverage, _, _ in arrivals]
    aggregation.begin(state, jobs)
    for coverage, update, weight in arrivals if own is None else own:
        aggregation.add(coverage, update, weight)
    return {name: value.clone() for name, value in aggregation.finish(reduce).items()}


def by_loops(arrivals, coverage_of, shapes):
    """The label split as HeteroFL's code has it: entry by entry, the mean over those that hold it and own its row."""
    merged = {}
    for name, shape in shapes.items():
        merged[name] = torch.zeros(shape)
        for entry in np.ndindex(*shape):
            total, weights = 0.0, 0.0
            for number, (_, update, weight) in enumerate(arrivals):
                where = coverage_of(number, name, entry)
                row_is_own = not name.startswith("2.") or update.labels is None or bool(update.labels[entry[0]])
                if where is not None and row_is_own:
                    total += weight * float(update.delta[name][where])
                    weights += weight
            merged[name][entry] = total / weights if weights else 0.0
    return merged


def position(kept, name, entry):
    """Where a client with the units ``kept`` holds an entry of the full tensor; None if it doesn't."""
    dim = {"0.weight": 0, "0.bias": 0, "2.weight": 1, "2.bias": None}[name]
    if dim is None:
        return entry
    kept = sorted(kept)
    if entry[dim] not in kept:
        return None
    return tuple(kept.index(size) if at == dim else size for at, size in enumerate(entry))


def test_two_clients_by_hand(plan, state):
    """A has labels 0 and 1 and units 0 and 1, B has labels 1 and 2 and units 1 and 2, both of weight 1."""
    first, second = cover(plan, (0, 1)), cover(plan, (1, 2))
    one = {
        "0.weight": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "0.bias": torch.tensor([1.0, 2.0]),
        "2.weight": torch.tensor([[1.0, 2.0], [3.0, 4.0], [50.0, 60.0], [70.0, 80.0]]),
        "2.bias": torch.tensor([1.0, 2.0, 30.0, 40.0]),
    }  # fmt: skip
    two = {
        "0.weight": torch.tensor([[5.0, 6.0], [7.0, 8.0]]), "0.bias": torch.tensor([4.0, 5.0]),
        "2.weight": torch.tensor([[10.0, 20.0], [6.0, 7.0], [8.0, 9.0], [30.0, 40.0]]),
        "2.bias": torch.tensor([90.0, 4.0, 5.0, 60.0]),
    }  # fmt: skip
    arrivals = [(first, update_of(one, labels(0, 1)), 1.0), (second, update_of(two, labels(1, 2)), 1.0)]
    merged = merge(CoverageMean(label_rows=True), state, arrivals)
    assert merged["0.weight"].tolist() == [[1.0, 2.0], [4.0, 5.0], [7.0, 8.0]]  # all rows: they are no labels'
    assert merged["0.bias"].tolist() == [1.0, 3.0, 5.0]
    assert merged["2.weight"].tolist() == [[1.0, 2.0, 0.0], [3.0, 5.0, 7.0], [0.0, 8.0, 9.0], [0.0, 0.0, 0.0]]
    assert merged["2.bias"].tolist() == [1.0, 3.0, 5.0, 0.0]
    # Without the split, the rows that one of them doesn't have count as well.
    assert merge(CoverageMean(), state, arrivals)["2.bias"].tolist() == [45.5, 3.0, 17.5, 50.0]


CROWDS = {
    "full clients only": ([range(3), range(3)], [labels(0, 1), labels(1, 2)]),
    "full and thin": ([range(3), (0, 2), (1,)], [labels(0), labels(0, 3), labels(1, 3)]),
    "thin before full": ([(2,), range(3)], [labels(0, 1, 2, 3), labels(2)]),
    "with all labels, and not masked": ([(0, 1), (1, 2), range(3)], [labels(0, 1, 2, 3), None, labels(3)]),
    "one client": ([(0, 2)], [labels(1)]),
}


@pytest.fixture(params=CROWDS)
def crowd(request, plan):
    kept, owned = CROWDS[request.param]
    coverages = [cover(plan, units) for units in kept]
    arrivals = [
        (coverage, random_update(coverage, seed, own), 1.0 + seed)
        for seed, (coverage, own) in enumerate(zip(coverages, owned, strict=True))
    ]
    return kept, arrivals


def test_equals_plain_loops(crowd, plan, state):
    kept, arrivals = crowd
    expected = by_loops(arrivals, lambda number, *where: position(kept[number], *where), plan.structure.shapes)
    for name, value in merge(CoverageMean(label_rows=True), state, arrivals).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=1e-7)


def test_weight_masks_go_through_the_same_seam(plan, state):
    arrivals = []
    for seed, own in enumerate([labels(0, 1), labels(1, 2), None]):
        generator = torch.Generator().manual_seed(seed)
        shapes = {name: plan.structure.shapes[name] for name in ("0.weight", "2.weight")}
        masks = {name: torch.rand(shape, generator=generator) > 0.4 for name, shape in shapes.items()}
        coverage = MaskCoverage(plan.structure, masks)
        arrivals.append((coverage, random_update(coverage, seed, own), 1.0 + seed))

    def where(number, name, entry):
        masks = arrivals[number][0].masks
        return entry if name not in masks or bool(masks[name][entry]) else None

    expected = by_loops(arrivals, where, plan.structure.shapes)
    for name, value in merge(CoverageMean(label_rows=True), state, arrivals).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=1e-7)


def test_processes_add_up_to_the_run_of_one(crowd, state, two_processes):
    """Also where one of them has no client."""
    _, arrivals = crowd
    expected = merge(CoverageMean(label_rows=True), state, arrivals)
    for shares in ([arrivals[:1], arrivals[1:]], [[], arrivals]):

        def run(rank, reduce, shares=shares):
            return merge(CoverageMean(label_rows=True), state, arrivals, shares[rank], reduce)

        for merged in two_processes(run):
            assert merged.keys() == expected.keys()
            for name, value in merged.items():
                torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=1e-9)


def test_a_round_leaves_nothing_for_the_next(crowd, state):
    _, arrivals = crowd
    aggregation = CoverageMean(label_rows=True)
    first = merge(aggregation, state, arrivals)
    merge(aggregation, state, arrivals[::-1])
    again = merge(aggregation, state, arrivals)
    assert all(torch.equal(value, first[name]) for name, value in again.items())
    assert merge(aggregation, state, []) == {}
    assert merge(aggregation, state, arrivals, own=[]) == {}  # all were rejected


def test_without_masked_logits_nothing_changes(crowd, state):
    _, arrivals = crowd
    for _, update, _ in arrivals:
        update.labels = None
    expected = merge(CoverageMean(), state, arrivals)
    for name, value in merge(CoverageMean(label_rows=True), state, arrivals).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=1e-9)


def test_rows_are_left_out_after_updates_were_scaled(plan, state):
    """Γ is the length of the whole update, also of the rows that don't count."""
    coverage = cover(plan, range(3))
    zeros = {name: torch.zeros(coverage.thin_shape(name)) for name in ("0.weight", "0.bias", "2.weight")}
    update = update_of({**zeros, "2.bias": torch.tensor([3.0, 4.0, 0.0, 0.0])}, labels(0))
    merged = merge(CoverageMean(update_norm=10.0, label_rows=True), state, [(coverage, update, 2.0)])
    assert merged["2.bias"].tolist() == [6.0, 0.0, 0.0, 0.0]
