"""FedNova: w ← w - τ_eff Σ p_k d_k with d_k = (w - w_k) / ‖a_k‖₁, in three local solvers, by the official sum."""

from functools import partial

import pytest
import torch
from plain_submodels import CLIENTS, HIDDEN, LR, SIZES, assert_equal, run, start, train

from fedlight.algorithms import FedNova
from fedlight.core.seeds import numpy_generator
from fedlight.errors import ConfigError
from fedlight.parts import LeanLoop, Proximal, Stragglers, TrainerLoop

EPOCHS = 12


def steps_of(round_idx):
    """Half of four clients straggle: those of the smallest draws; they do 1, ..., 12 epochs of one step."""
    draws = [numpy_generator(3, round_idx, client, "straggler").random() for client in CLIENTS]
    works = [int(numpy_generator(3, round_idx, client, "straggler work").integers(1, EPOCHS + 1)) for client in CLIENTS]
    return [works[n] if draws[n] < sorted(draws)[2] else EPOCHS for n in CLIENTS]


def norm_of(steps, momentum, mu):
    if mu:
        return sum((1 - LR * mu) ** s for s in range(steps))
    return sum((1 - momentum**s) / (1 - momentum) for s in range(1, steps + 1))


@pytest.mark.parametrize(("momentum", "mu"), [(0.0, 0.0), (0.9, 0.0), (0.0, 0.7)])
def test_equals_plain_loops(momentum, mu):
    rounds, weights, full = 4, start(), torch.ones(HIDDEN, dtype=torch.bool)
    local = LeanLoop(epochs=EPOCHS, optimizer=partial(torch.optim.SGD, lr=LR, momentum=momentum))
    server = run(FedNova(local=local, momentum=momentum, mu=mu, lr=LR, work=Stragglers(0.5)), rounds)
    for round_idx in range(rounds):
        steps, directions, p = steps_of(round_idx), [], [size / sum(SIZES) for size in SIZES]
        for client in CLIENTS:
            own, velocity = dict(weights), {name: torch.zeros_like(value) for name, value in weights.items()}
            for _ in range(steps[client]):
                gradient = {name: -value / LR for name, value in train(own, full, client)[0].items()}
                for name in own:
                    pulled = gradient[name] + mu * (own[name] - weights[name])
                    velocity[name] = momentum * velocity[name] + pulled
                    own[name] = own[name] - LR * velocity[name]
            worth = norm_of(steps[client], momentum, mu)
            directions.append({name: (weights[name] - own[name]) / worth for name in own})
        assert [server.told[round_idx][client].num_steps for client in CLIENTS] == steps
        worths = [steps[n] if mu else norm_of(steps[n], momentum, 0.0) for n in CLIENTS]
        tau_eff = sum(p[n] * worths[n] for n in CLIENTS)
        for name in weights:
            weights[name] = weights[name] - tau_eff * sum(p[n] * directions[n][name] for n in CLIENTS)
    assert_equal(server, weights)
    assert len({step for round_idx in range(rounds) for step in steps_of(round_idx)}) > 2


def test_a_proximal_term_needs_the_learning_rate():
    with pytest.raises(ConfigError, match=r"mu=0.1 of FedNova needs lr"):
        FedNova(mu=0.1)


@pytest.mark.parametrize("loop", [LeanLoop, TrainerLoop])
@pytest.mark.parametrize(
    ("optimizer", "local", "options", "refusal"),
    [
        ({"momentum": 0.9}, {}, {}, "momentum=0 of the algorithm isn't that of the clients' SGD, 0.9"),
        ({}, {}, {"momentum": 0.5}, "momentum=0.5 of the algorithm isn't that of the clients' SGD, 0"),
        ({}, {}, {"mu": 0.1, "lr": 2 * LR}, f"lr={2 * LR:g} of the algorithm isn't that of the clients' SGD, {LR:g}"),
        ({"momentum": 0.9, "nesterov": True}, {}, {"momentum": 0.9}, "nesterov=True of the clients' SGD"),
        ({}, {"proximal": Proximal(0.1)}, {}, "mu=0.1 unknown to FedNova"),
        (None, {}, {}, "clients train by Adam"),
    ],
)
def test_the_normaliser_must_be_that_of_the_clients_optimizer(loop, optimizer, local, options, refusal):
    make = torch.optim.Adam if optimizer is None else partial(torch.optim.SGD, **optimizer)
    with pytest.raises(ConfigError, match=refusal):
        run(FedNova(local=loop(optimizer=partial(make, lr=LR), **local), **options), 1)


def test_the_modules_own_optimizer_is_asked_too():
    with pytest.raises(ConfigError, match=r"momentum=0.5 of the algorithm"):
        run(FedNova(momentum=0.5), 1)
