"""Coverage means on real models: sums through index maps equal a mean over dense copies with holes."""

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models import MobileNetV2

from fedlight.models import GPT, LSTM, ConvNet, ViT
from fedlight.submodels import SubmodelPlan
from fedlight.submodels.coverage import Coverage, MaskCoverage

State = dict[str, Tensor]
Clients = list[tuple[Coverage, State, float]]


def mobile_net() -> nn.Module:
    net = MobileNetV2(num_classes=3, inverted_residual_setting=[[1, 8, 1, 1], [2, 12, 2, 1]], width_mult=0.25)
    net.example_input_array = torch.randn(2, 3, 16, 16)
    return net


MODELS = {
    "convnet": lambda: ConvNet("digits"),
    "vit": lambda: ViT(image_size=8, dim=16, depth=1, num_heads=4, fused=True),
    "gpt": lambda: GPT(vocab_size=7, context_length=6, dim=16, depth=1, num_heads=4, num_kv_heads=2, hidden_dim=12),
    "lstm": lambda: LSTM(vocab_size=9, num_classes=2, hidden_size=8, sequence_length=4),
    "mobilenet": mobile_net,
}


@functools.cache
def traced(name: str) -> tuple[SubmodelPlan, State]:
    module = MODELS[name]()
    plan = SubmodelPlan.trace(module, (module.example_input_array,), check=False)
    return plan, dict(module.state_dict())


def make_clients(name: str, seed: int, ratios: list[float], masked: bool) -> Clients:
    plan, state = traced(name)
    draw = torch.Generator().manual_seed(seed)
    clients: Clients = []
    for index, ratio in enumerate(ratios):
        if masked and index % 2:
            masks = {
                key: torch.rand(value.shape, generator=draw) >= ratio for key, value in state.items() if value.dim()
            }
            coverage: Coverage = MaskCoverage(plan.structure, masks)
        else:
            coverage = plan.coverage(plan.keep(torch.rand(plan.num_units, generator=draw), ratio, round_to=1))
        values = {name: torch.randn(coverage.thin_shape(name), generator=draw) for name in float_names(state)}
        clients.append((coverage, values, float(torch.rand((), generator=draw) * 10 + 0.1)))
    return clients


def float_names(state: State) -> list[str]:
    return [name for name, value in state.items() if value.is_floating_point()]


def coverage_mean(state: State, clients: Clients) -> State:
    """What an aggregation does with coverage, in float64; NaN where nobody covers."""
    means = {}
    for name in float_names(state):
        total = torch.zeros(state[name].shape, dtype=torch.float64)
        counts = torch.zeros(clients[0][0].count_shape(name), dtype=torch.float64)
        for coverage, values, weight in clients:
            coverage.scatter_add_(name, total, values[name], weight)
            coverage.count_add_(name, counts, weight)
        means[name] = total / counts
    return means


def dense_mean(state: State, clients: Clients) -> State:
    """The same over one full copy per client, with NaN where it has nothing."""
    holes = {**state, **{name: torch.full_like(state[name], torch.nan) for name in float_names(state)}}
    copies = [coverage.regrow({**coverage.slice(state), **values}, holes) for coverage, values, _ in clients]
    weights = [torch.tensor(weight, dtype=torch.float64) for *_, weight in clients]
    means = {}
    for name in float_names(state):
        stacked = torch.stack([copy[name].double() for copy in copies])
        held = torch.stack([~copy.isnan() * weight for copy, weight in zip(stacked, weights, strict=True)])
        means[name] = (stacked * held).nansum(0) / held.sum(0)
    return means


ratio_lists = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 0.9]), min_size=1, max_size=4)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 999), ratios=ratio_lists)
def test_coverage_mean_equals_the_mean_over_dense_copies(name: str, seed: int, ratios: list[float]) -> None:
    _, state = traced(name)
    clients = make_clients(name, seed, ratios, masked=False)
    expected = dense_mean(state, clients)
    for key, mean in coverage_mean(state, clients).items():
        torch.testing.assert_close(mean, expected[key], rtol=1e-12, atol=1e-12, equal_nan=True)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 999), ratios=ratio_lists)
def test_masks_merge_by_the_same_rule(seed: int, ratios: list[float]) -> None:
    _, state = traced("convnet")
    clients = make_clients("convnet", seed, [0.0, *ratios], masked=True)[1::2]
    if clients:
        expected = dense_mean(state, clients)
        for key, mean in coverage_mean(state, clients).items():
            torch.testing.assert_close(mean, expected[key], rtol=1e-12, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("name", MODELS)
def test_full_coverage_is_the_plain_weighted_mean(name: str) -> None:
    _, state = traced(name)
    clients = make_clients(name, 0, [0.0, 0.0, 0.0], masked=False)
    weights = torch.tensor([weight for *_, weight in clients], dtype=torch.float64)
    for key, mean in coverage_mean(state, clients).items():
        stacked = torch.stack([values[key].double() for _, values, _ in clients])
        expected = torch.tensordot(weights / weights.sum(), stacked, 1)
        torch.testing.assert_close(mean, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 999), order=st.permutations(range(4)))
def test_the_order_of_clients_does_not_matter(name: str, seed: int, order: list[int]) -> None:
    _, state = traced(name)
    clients = make_clients(name, seed, [0.0, 0.25, 0.5, 0.75], masked=False)
    means = coverage_mean(state, [clients[index] for index in order])
    for key, mean in coverage_mean(state, clients).items():
        torch.testing.assert_close(mean, means[key], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_a_client_alone_gets_its_own_values_back(name: str) -> None:
    _, state = traced(name)
    ((coverage, values, weight),) = make_clients(name, 1, [0.5], masked=False)
    for key, mean in coverage_mean(state, [(coverage, values, weight)]).items():
        torch.testing.assert_close(coverage.gather(key, mean), values[key].double(), rtol=1e-14, atol=0)
        assert int((~mean.isnan()).sum()) == values[key].numel()
