"""Merging against a dense oracle: full-shape arrays with NaN where a client covers nothing."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedlight.core.types import Job, Timing, Work
from fedlight.errors import ConfigError
from fedlight.parts.aggregation import CoverageMean, ResidualRecovery
from fedlight.submodels import ChannelCoverage, MaskCoverage

PARAMETERS = ("a.weight", "a.bias", "b.weight", "c.weight", "c.bias")
NUM_UNITS = 10


def channel_coverage(plan, kept):
    keep = torch.zeros(NUM_UNITS, dtype=torch.bool)
    keep[list(kept)] = True
    return ChannelCoverage(plan.structure, keep)


def mask_coverage(plan, seed):
    generator = torch.Generator().manual_seed(seed)
    shapes = plan.structure.shapes
    masks = {name: torch.rand(shapes[name], generator=generator) > 0.4 for name in ("a.weight", "c.weight")}
    return MaskCoverage(plan.structure, masks)


def job(coverage, client=0):
    return Job(client, 0, 0.0, coverage, Work(0.0, 0, 0), Timing(0.0, 1.0, 0.0), 0.0)


def merge(aggregation, state, arrivals, reduce=lambda tensor: None):
    aggregation.begin(state, [job(coverage) for coverage, _, _ in arrivals])
    for coverage, update, weight in arrivals:
        aggregation.add(coverage, update, weight)
    return aggregation.finish(reduce)


def dense(plan, coverage, name, value):
    """Full shape, NaN where not covered, found by regrowing into NaN."""
    nan = {key: torch.full(shape, torch.nan) for key, shape in plan.structure.shapes.items()}
    thin = coverage.slice(nan)
    thin[name] = value
    covered = coverage.regrow({key: torch.zeros_like(entry) for key, entry in thin.items()}, nan)[name]
    return torch.where(covered.isnan(), torch.nan, coverage.regrow(thin, nan)[name]).double().numpy()


def oracle(plan, arrivals, name, divisor):
    values = np.stack([dense(plan, coverage, name, {**u.delta, **u.buffers}[name]) for coverage, u, _ in arrivals])
    weights = np.array([weight for *_, weight in arrivals]).reshape(-1, *[1] * (values.ndim - 1))
    total = np.nansum(weights * values, axis=0)
    counts = (weights * ~np.isnan(values)).sum(0)
    below = counts if divisor == "coverage" else np.full_like(counts, weights.sum())
    return np.where(counts > 0, total / np.where(below > 0, below, 1), 0.0)


@pytest.fixture
def arrivals(plan, make_update):
    kept = [range(10), (0, 1, 4, 5, 6), (0, 3, 4, 9), (1, 2, 3, 5, 7, 8)]
    coverages = [channel_coverage(plan, units) for units in kept]
    return [(coverage, make_update(coverage, client), 1.0 + client) for client, coverage in enumerate(coverages)]


@pytest.mark.parametrize(("kind", "divisor"), [(CoverageMean, "coverage"), (ResidualRecovery, "clients")])
@pytest.mark.parametrize("first", [0, 1, 2])  # without the full client some entries are covered by nobody
def test_equals_the_dense_oracle(kind, divisor, first, plan, make_state, arrivals):
    merged = merge(kind(), make_state(), arrivals[first:])
    assert merged.keys() == {*PARAMETERS, "stat"}
    for name, value in merged.items():
        expected = oracle(plan, arrivals[first:], name, "coverage" if name == "stat" else divisor)
        np.testing.assert_allclose(value.numpy(), expected, rtol=1e-6, atol=1e-7)
        assert value.dtype == torch.float32


@pytest.mark.parametrize(("kind", "divisor"), [(CoverageMean, "coverage"), (ResidualRecovery, "clients")])
def test_weight_masks_go_through_the_same_seam(kind, divisor, plan, make_state, make_update):
    coverages = [mask_coverage(plan, seed) for seed in range(3)]
    masked = [(coverage, make_update(coverage, client), 2.0 + client) for client, coverage in enumerate(coverages)]
    for name, value in merge(kind(), make_state(), masked).items():
        expected = oracle(plan, masked, name, "coverage" if name == "stat" else divisor)
        np.testing.assert_allclose(value.numpy(), expected, rtol=1e-6, atol=1e-7)


def test_one_entry_by_hand(plan, make_state, make_update):
    """Client 0 (weight 1) holds units 0 and 4, client 1 (weight 3) units 0, 1 and 4: Δ of a.bias are 4 and (8, 2)."""
    both, arrivals = [(0, 4), (0, 1, 4)], []
    for client, (units, values) in enumerate(zip(both, [[4.0], [8.0, 2.0]], strict=True)):
        coverage = channel_coverage(plan, units)
        update = make_update(coverage, client)
        update.delta["a.bias"] = torch.tensor(values)
        arrivals.append((coverage, update, (1.0, 3.0)[client]))
    mean = merge(CoverageMean(), make_state(), arrivals)["a.bias"]
    recovered = merge(ResidualRecovery(), make_state(), arrivals)["a.bias"]
    assert mean.tolist() == [7.0, 2.0, 0.0, 0.0]  # (4 + 24) / 4, 6 / 3
    assert recovered.tolist() == [7.0, 1.5, 0.0, 0.0]  # (4 + 24) / 4, 6 / 4


@pytest.mark.parametrize("kind", [CoverageMean, ResidualRecovery])
def test_full_coverage_is_fedavg(kind, plan, make_state, make_update):
    full = channel_coverage(plan, range(10))
    arrivals = [(full, make_update(full, client), 3.0 - client) for client in range(3)]
    merged = merge(kind(), make_state(), arrivals)
    for name in PARAMETERS:
        mean = sum(weight * update.delta[name].double() for _, update, weight in arrivals) / 6.0
        torch.testing.assert_close(merged[name], mean.float(), rtol=0, atol=0)


@pytest.mark.parametrize("kind", [CoverageMean, ResidualRecovery])
@given(order=st.permutations(range(4)))
def test_the_order_of_clients_does_not_matter(kind, order, arrivals_of_module):
    state, arrivals = arrivals_of_module
    expected = merge(kind(), state, arrivals)
    for name, value in merge(kind(), state, [arrivals[index] for index in order]).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", [CoverageMean, ResidualRecovery])
def test_zero_steps_change_nothing(kind, make_state, arrivals):
    for _, update, _ in arrivals:
        update.delta = {name: torch.zeros_like(value) for name, value in update.delta.items()}
        update.buffers = {name: torch.zeros_like(value) for name, value in update.buffers.items()}
    assert all(not value.any() for value in merge(kind(), make_state(), arrivals).values())


@pytest.mark.parametrize("kind", [CoverageMean, ResidualRecovery])
def test_a_round_leaves_nothing_for_the_next(kind, make_state, arrivals):
    aggregation = kind()
    first = {name: value.clone() for name, value in merge(aggregation, make_state(), arrivals).items()}
    merge(aggregation, make_state(1), arrivals[1:])
    for name, value in merge(aggregation, make_state(2), arrivals).items():
        assert torch.equal(value, first[name])


@pytest.mark.parametrize("kind", [CoverageMean, ResidualRecovery])
def test_no_update_gives_no_aggregate(kind, make_state, arrivals):
    assert merge(kind(), make_state(), []) == {}
    aggregation = kind()
    aggregation.begin(make_state(), [job(coverage) for coverage, *_ in arrivals])  # all were rejected
    assert aggregation.finish(lambda tensor: None) == {}


@pytest.mark.parametrize("kind", [CoverageMean, ResidualRecovery])
def test_processes_add_up_to_the_run_of_one(kind, make_state, arrivals, two_processes):
    """The second process holds no client: it still takes part in every reduction, in the same order and shapes."""
    expected = merge(kind(), make_state(), arrivals)
    for shares in ([arrivals[:3], arrivals[3:]], [arrivals, []]):

        def run(rank, reduce, shares=shares):
            aggregation = kind()
            aggregation.begin(make_state(), [job(coverage) for coverage, *_ in arrivals])
            for arrival in shares[rank]:
                aggregation.add(*arrival)
            return aggregation.finish(reduce)

        for merged in two_processes(run):
            assert merged.keys() == expected.keys()
            for name, value in merged.items():
                torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", [CoverageMean, ResidualRecovery])
def test_updates_can_be_scaled_to_one_length(kind, make_state, arrivals):
    def lengths(arrivals):
        return [sum(float(value.square().sum()) for value in update.delta.values()) ** 0.5 for _, update, _ in arrivals]

    merged = merge(kind(update_norm=0.5), make_state(), arrivals)
    for length, (_, update, _) in zip(lengths(arrivals), arrivals, strict=True):
        update.delta = {name: value * 0.5 / length for name, value in update.delta.items()}
    expected = merge(kind(), make_state(), arrivals)
    for name, value in merged.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-7)
    arrivals[0][1].delta = {name: torch.zeros_like(value) for name, value in arrivals[0][1].delta.items()}
    assert all(value.isfinite().all() for value in merge(kind(update_norm=0.5), make_state(), arrivals).values())
    with pytest.raises(ConfigError, match="update_norm=0 is no length"):
        kind(update_norm=0)


def held_bytes(holder, weights):
    """Bytes of all tensors that can be reached from an object, but for the global weights."""
    seen, storages, todo = set(), {}, [holder]
    while todo:
        entry = todo.pop()
        if id(entry) in seen or entry is weights:
            continue
        seen.add(id(entry))
        if isinstance(entry, torch.Tensor):
            storages[entry.untyped_storage().data_ptr()] = entry.untyped_storage().nbytes()
        elif isinstance(entry, dict):
            todo += entry.values()
        elif isinstance(entry, list | tuple | set):
            todo += entry
        elif hasattr(entry, "__dict__") and not isinstance(entry, type):
            todo += vars(entry).values()
    return sum(storages.values())


@pytest.mark.parametrize("kind", [CoverageMean, ResidualRecovery])
def test_memory_does_not_grow_with_the_cohort(kind, plan, make_state, make_update):
    coverage, state, aggregation = channel_coverage(plan, (0, 1, 4, 5)), make_state(), kind()
    aggregation.begin(state, [job(coverage)])
    held = [held_bytes(aggregation, state.weights)]
    for client in range(20):
        own = channel_coverage(plan, (client % 4, 4 + client % 6))
        aggregation.add(own, make_update(own, client), 1.0)
        held.append(held_bytes(aggregation, state.weights))
    entries = 8 + 4 + 24 + 18 + 3 + 4  # of all tensors that travel, and at most as many counts
    assert held[1] == held[-1]
    assert 8 * entries <= held[-1] - held[0] <= 2 * 8 * entries
    aggregation.begin(state, [job(coverage)])
    assert held_bytes(aggregation, state.weights) == held[-1]  # kept for the next round


def test_nothing_is_allocated_before_the_first_update(make_state):
    state, aggregation = make_state(), CoverageMean()
    aggregation.begin(state, [])
    assert held_bytes(aggregation, state.weights) == 0
