"""Merging against a dense oracle: full-shape arrays with NaN where a client covers nothing."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedlight.core.types import Job, Timing, Work
from fedlight.errors import ConfigError
from fedlight.parts.aggregation import CoverageMean, ResidualRecovery, StepNormalized, ZeroFill
from fedlight.parts.aggregation.step_normalized import normalizer
from fedlight.submodels import ChannelCoverage, MaskCoverage

PARAMETERS = ("a.weight", "a.bias", "b.weight", "c.weight", "c.bias")
NUM_UNITS = 10
KINDS = (CoverageMean, ResidualRecovery, StepNormalized, ZeroFill, lambda: ResidualRecovery(bits=4))

every_kind = pytest.mark.parametrize("kind", KINDS, ids=["mean", "recovery", "steps", "zeros", "quantised"])


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


@every_kind
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("order", [(3, 2, 1, 0), (1, 0, 3, 2), (2, 3, 0, 1)])
def test_the_order_of_updates_changes_no_bit(kind, order, seed, plan, make_state, make_update):
    """Weights are float32 as the server's are, and far from powers of two; so two processes can add up apart."""
    kept = [range(10), (0, 1, 4, 5, 6), (0, 3, 4, 9), (1, 2, 3, 5, 7, 8)]
    coverages = [channel_coverage(plan, units) for units in kept]
    weights = (torch.tensor([0.1, 1 / 3, 0.7, 123.4]) / 7).tolist()
    updates = [(one, make_update(one, n, seed=seed), weights[n]) for n, one in enumerate(coverages)]
    merged, other = (merge(kind(), make_state(), of) for of in (updates, [updates[n] for n in order]))
    assert all(torch.equal(value, other[name]) for name, value in merged.items())


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


@pytest.mark.parametrize("kind", [CoverageMean, ResidualRecovery, ZeroFill, lambda: ResidualRecovery(bits=1)])
def test_full_coverage_is_fedavg(kind, plan, make_state, make_update):
    full = channel_coverage(plan, range(10))
    arrivals = [(full, make_update(full, client), 3.0 - client) for client in range(3)]
    merged = merge(kind(), make_state(), arrivals)
    for name in PARAMETERS:
        mean = sum(weight * update.delta[name].double() for _, update, weight in arrivals) / 6.0
        torch.testing.assert_close(merged[name], mean.float(), rtol=1e-6, atol=0)


@every_kind
@given(order=st.permutations(range(4)))
def test_the_order_of_clients_does_not_matter(kind, order, arrivals_of_module):
    state, arrivals = arrivals_of_module
    expected = merge(kind(), state, arrivals)
    for name, value in merge(kind(), state, [arrivals[index] for index in order]).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", [CoverageMean, ResidualRecovery, StepNormalized])
def test_zero_steps_change_nothing(kind, make_state, arrivals):
    for _, update, _ in arrivals:
        update.delta = {name: torch.zeros_like(value) for name, value in update.delta.items()}
        update.buffers = {name: torch.zeros_like(value) for name, value in update.buffers.items()}
    assert all(not value.any() for value in merge(kind(), make_state(), arrivals).values())


@every_kind
def test_a_round_leaves_nothing_for_the_next(kind, make_state, arrivals):
    aggregation = kind()
    first = {name: value.clone() for name, value in merge(aggregation, make_state(), arrivals).items()}
    merge(aggregation, make_state(1), arrivals[1:])
    for name, value in merge(aggregation, make_state(2), arrivals).items():
        assert torch.equal(value, first[name])


@every_kind
def test_no_update_gives_no_aggregate(kind, make_state, arrivals):
    assert merge(kind(), make_state(), []) == {}
    aggregation = kind()
    aggregation.begin(make_state(), [job(coverage) for coverage, *_ in arrivals])  # all were rejected
    assert aggregation.finish(lambda tensor: None) == {}


@every_kind
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
    for wrong in (0, math.inf, math.nan):
        with pytest.raises(ConfigError, match=f"update_norm={wrong} is no length"):
            kind(update_norm=wrong)


def still(arrivals):
    """The same arrivals without a change of weights."""
    for _, update, _ in arrivals:
        update.delta = {name: torch.zeros_like(value) for name, value in update.delta.items()}
    return arrivals


def test_zero_fill_shrinks_what_few_clients_hold(plan, make_state, make_update):
    """Equal clients hold units (0, 4) and (0, 1, 4): without a step x stays, halves and goes to 0."""
    coverages = [channel_coverage(plan, units) for units in ((0, 4), (0, 1, 4))]
    arrivals = still([(coverage, make_update(coverage, client), 2.0) for client, coverage in enumerate(coverages)])
    state = make_state()
    x, merged = state.weights["a.bias"], merge(ZeroFill(), state, arrivals)["a.bias"]
    torch.testing.assert_close(x + merged, x * torch.tensor([1.0, 0.5, 0.0, 0.0]))


def test_zero_fill_is_the_mean_of_zero_filled_models(plan, make_state, arrivals):
    state, total = make_state(), sum(weight for *_, weight in arrivals[1:])
    zeros = {name: torch.zeros_like(value) for name, value in state.weights.items()}
    for name, value in merge(ZeroFill(), state, arrivals[1:]).items():
        if name == "stat":
            continue
        expected = torch.zeros_like(value)
        for coverage, update, weight in arrivals[1:]:
            thin = coverage.slice(state.weights)
            filled = coverage.regrow({**thin, name: thin[name] + update.delta[name]}, zeros)[name]
            expected += weight / total * filled
        torch.testing.assert_close(state.weights[name] + value, expected, rtol=1e-6, atol=1e-6)


def test_quantised_residuals_by_hand(plan, make_state, make_update):
    """One bit: what the client of unit 0 doesn't hold becomes the lowest or highest of it."""
    state, own, full = make_state(), channel_coverage(plan, (0, 4)), channel_coverage(plan, range(10))
    state.weights["a.bias"].copy_(torch.tensor([5.0, 1.0, 1.4, 3.0]))
    update = make_update(own, 0)
    update.delta["a.bias"] = torch.tensor([0.5])
    merged = merge(ResidualRecovery(bits=1), state, [(own, update, 2.0)])["a.bias"]
    torch.testing.assert_close(merged, torch.tensor([0.5, 0.0, -0.4, 0.0]))
    both = [(own, update, 2.0), *still([(full, make_update(full, 1), 2.0)])]
    torch.testing.assert_close(merge(ResidualRecovery(bits=1), state, both)["a.bias"], merged / 2)


def test_residuals_of_weights_in_another_order_of_memory(plan, make_state, make_update):
    """Such as channels_last: their values count, not where they lie."""
    own = channel_coverage(plan, [0, 2, 4, 7])
    arrivals = [(own, make_update(own, 0), 2.0)]
    plain, turned = make_state(), make_state()
    turned.weights["a.weight"] = turned.weights["a.weight"].t().contiguous().t()
    expected = merge(ResidualRecovery(bits=2), plain, arrivals)
    for name, value in merge(ResidualRecovery(bits=2), turned, arrivals).items():
        assert torch.equal(value, expected[name]), name


def test_finer_residuals_come_nearer_to_exact_ones(make_state, arrivals):
    exact = merge(ResidualRecovery(), make_state(), arrivals)
    errors = []
    for bits in (2, 4, 8, 16):
        merged = merge(ResidualRecovery(bits=bits), make_state(), arrivals)
        errors.append(max(float((merged[name] - exact[name]).abs().max()) for name in exact))
    assert errors[0] > 2 * errors[1] > 4 * errors[2] > 8 * errors[3] > 0
    assert errors[3] < 1e-4
    for bits in (0, 17):
        with pytest.raises(ConfigError, match=f"bits={bits} of ResidualRecovery"):
            ResidualRecovery(bits=bits)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"lr_mu": 0.1, "proximal_tau": False}])
def test_equal_work_makes_fednova_the_mean_over_clients(options, make_state, arrivals):
    for _, update, _ in arrivals:
        update.num_steps = 7
    expected = merge(ResidualRecovery(), make_state(), arrivals)
    for name, value in merge(StepNormalized(**options), make_state(), arrivals).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=1e-7)


def test_fednova_by_hand(plan, make_state, make_update):
    """p = (¼, ¾), τ = (2, 4): τ_eff = 3.5, so U = 3.5 (¼ · 4 / 2 + ¾ · 8 / 4) = 7; the second alone holds unit 1."""
    arrivals = []
    for client, (units, steps, values) in enumerate([((0, 4), 2, [4.0]), ((0, 1, 4), 4, [8.0, 2.0])]):
        coverage = channel_coverage(plan, units)
        update = make_update(coverage, client, num_steps=steps)
        update.delta["a.bias"] = torch.tensor(values)
        arrivals.append((coverage, update, (1.0, 3.0)[client]))
    merged = merge(StepNormalized(), make_state(), arrivals)["a.bias"]
    assert merged.tolist() == [7.0, 3.5 * 0.75 * 0.5, 0.0, 0.0]
    # With η μ = ½: ‖a‖ = (1.5, 1.875), τ_eff from steps 3.5 or from ‖a‖ ¼ · 1.5 + ¾ · 1.875 = 1.78125.
    for proximal_tau, work in ((True, 3.5), (False, 1.78125)):
        merged = merge(StepNormalized(lr_mu=0.5, proximal_tau=proximal_tau), make_state(), arrivals)["a.bias"]
        both, second = 0.25 * 4 / 1.5 + 0.75 * 8 / 1.875, 0.75 * 2 / 1.875
        assert merged.tolist() == pytest.approx([work * both, work * second, 0, 0])


def test_a_client_without_a_step_moves_nothing(plan, make_state, make_update):
    full = channel_coverage(plan, range(10))
    arrivals = [(full, make_update(full, client, num_steps=client), 1.0) for client in range(2)]
    merged = merge(StepNormalized(), make_state(), arrivals)
    torch.testing.assert_close(merged["a.bias"], 0.25 * arrivals[1][1].delta["a.bias"])  # τ_eff = ½, p = ½


@pytest.mark.parametrize(("num_steps", "worth"), [(5, 13.1), (20, 120.9), (100, 910.0)])
def test_momentum_makes_steps_worth_more(num_steps, worth):
    assert normalizer(num_steps, 0.9) == pytest.approx(worth, abs=0.05)
    assert normalizer(num_steps, 0.9) == pytest.approx(sum((1 - 0.9**s) / (1 - 0.9) for s in range(1, num_steps + 1)))


@given(num_steps=st.integers(0, 50), momentum=st.floats(0, 0.99), lr_mu=st.floats(0, 0.5))
def test_normalizers_say_how_far_sgd_goes_on_unit_gradients(num_steps, momentum, lr_mu):
    """f(x) = -x + ½ μ (x - x₀)² from x₀ = 0 with η = 1: the distance is ‖a‖₁."""
    x = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = torch.optim.SGD([x], lr=1.0, momentum=momentum)
    for _ in range(num_steps):
        x.grad = -1.0 + lr_mu * x.detach()
        optimizer.step()
    assert normalizer(num_steps, momentum, lr_mu) == pytest.approx(x.item(), rel=1e-9, abs=1e-9)
    assert normalizer(num_steps, 0.0, lr_mu) == pytest.approx(sum((1 - lr_mu) ** s for s in range(num_steps)))


@pytest.mark.parametrize("options", [{"momentum": 1.0}, {"momentum": -0.1}, {"lr_mu": 1.0}])
def test_bad_constants_of_fednova_are_refused(options):
    with pytest.raises(ConfigError, match=f"{next(iter(options))}=.* of StepNormalized"):
        StepNormalized(**options)


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


@every_kind
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
