"""Server optimizers against plain loops over algorithm 2 of Reddi et al. 2021, and what torch's own do instead."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedlight.errors import ConfigError
from fedlight.parts.server_optimizers import FedOpt

UPDATES = [[0.5, -2.0, 0.0], [0.25, 1.0, -1e-4], [-1.5, 0.5, 3.0], [0.125, 0.0, 1.0]]


def run(make, updates=UPDATES):
    """The weights after every round, from 0, in float64."""
    weights, path = torch.nn.Parameter(torch.zeros(len(updates[0]), dtype=torch.float64)), []
    optimizer = make([weights])
    for update in updates:
        weights.grad = -torch.tensor(update, dtype=torch.float64)
        optimizer.step()
        path.append(weights.tolist())
    return path


def second_moment(rule, v, d, beta):
    if rule == "adagrad":
        return v + d * d
    if rule == "adam":
        return beta * v + (1 - beta) * d * d
    return v - (1 - beta) * d * d * math.copysign(v != d * d, v - d * d)


def reddi(rule, lr, betas, tau, updates=UPDATES):
    """Algorithm 2, one coordinate after the other."""
    columns = []
    for column in zip(*updates, strict=True):
        x, m, v, path = 0.0, 0.0, tau * tau, []
        for d in column:
            m = betas[0] * m + (1 - betas[0]) * d
            v = second_moment(rule, v, d, betas[1])
            x += lr * m / (math.sqrt(v) + tau)
            path.append(x)
        columns.append(path)
    return [list(row) for row in zip(*columns, strict=True)]


def same(one, other, tolerance=1e-9):
    return all(a == pytest.approx(b, rel=tolerance, abs=tolerance) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("rule", ["adagrad", "adam", "yogi"])
@given(beta_1=st.floats(0, 0.99), beta_2=st.floats(0, 0.999), tau=st.floats(1e-5, 1.0))
def test_equals_algorithm_2(rule, beta_1, beta_2, tau):
    path = run(lambda params: FedOpt(params, 0.1, rule, (beta_1, beta_2), tau))
    assert same(path, reddi(rule, 0.1, (beta_1, beta_2), tau), 1e-6)


def test_yogi_by_hand():
    """τ = 1, β = (0, ½): v = 1, 1 + ½·4 = 3 (since 4 > 1), 3 - ½·1 = 2.5 (since 1 < 3)."""
    path = run(lambda params: FedOpt(params, 1.0, "yogi", (0.0, 0.5), 1.0), [[2.0], [1.0]])
    first = 2 / (math.sqrt(3) + 1)
    assert same(path, [[first], [first + 1 / (math.sqrt(2.5) + 1)]])


def test_torch_adagrad_is_fedadagrad():
    path = run(lambda params: torch.optim.Adagrad(params, lr=0.1, eps=0.01, initial_accumulator_value=1e-4))
    assert same(path, reddi("adagrad", 0.1, (0.0, 0.0), 0.01))


def test_torch_sgd_is_fedavgm():
    """Hsu et al. 2019: v ← β v + Δ, θ ← θ + v."""
    x, v, expected = [0.0] * 3, [0.0] * 3, []
    for update in UPDATES:
        v = [0.9 * old + new for old, new in zip(v, update, strict=True)]
        x = [old + new for old, new in zip(x, v, strict=True)]
        expected.append(list(x))
    assert same(run(lambda params: torch.optim.SGD(params, lr=1.0, momentum=0.9)), expected)


def test_torch_adam_corrects_the_bias_that_reddi_keeps():
    """In the first round torch's Adam moves by lr · sign(Δ) whatever β; algorithm 2 by lr (1 - β₁) / √(1 - β₂)."""
    make = {"lr": 0.1, "betas": (0.9, 0.99)}
    (torch_first,) = run(lambda params: torch.optim.Adam(params, eps=1e-12, **make), [[0.5, -2.0]])
    (first,) = run(lambda params: FedOpt(params, rule="adam", tau=1e-12, **make), [[0.5, -2.0]])
    assert torch_first == pytest.approx([0.1, -0.1])
    assert first == pytest.approx([0.1 * 0.1 / math.sqrt(0.01), -0.1 * 0.1 / math.sqrt(0.01)])
    (first,) = run(lambda params: FedOpt(params, 0.1, "adam", (0.9, 0.999), 1e-12), [[0.5, -2.0]])
    assert first == pytest.approx([0.1 * 0.1 / math.sqrt(0.001), -0.1 * 0.1 / math.sqrt(0.001)])  # 3.2 times torch's


def test_a_large_tau_is_sgd():
    path = run(lambda params: FedOpt(params, 1e6, "yogi", (0.0, 0.99), 1e6))
    assert same(path, run(lambda params: torch.optim.SGD(params, lr=0.5)), 1e-4)  # √v is τ too


def test_survives_a_checkpoint():
    weights = [torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))]
    optimizers = [FedOpt([weight]) for weight in weights]
    for update in ([1.0, -1.0], [0.5, 0.5]):
        weights[0].grad = torch.tensor(update)
        optimizers[0].step()
        weights[1].data.copy_(weights[0].data)
        optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    for weight, optimizer in zip(weights, optimizers, strict=True):
        weight.grad = torch.tensor([0.1, 0.2])
        optimizer.step()
    assert torch.equal(weights[0], weights[1])


@pytest.mark.parametrize(("key", "value"), [("lr", 0.0), ("tau", 0.0), ("betas", (0.9, 1.0)), ("rule", "nadam")])
def test_bad_constants_are_refused(key, value):
    with pytest.raises(ConfigError, match=key):
        FedOpt([torch.nn.Parameter(torch.ones(1))], **{key: value})
