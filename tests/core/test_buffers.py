"""Whose running statistics a round merges, and what a client keeps whose update is left out."""

import math

import pytest
import torch
from toy import SIZES, Classifier, Regressor, ToyData, ToyFleet

from fedlight.algorithms import FedAvg
from fedlight.core import Algorithm, Server
from fedlight.core.slots import Contribution, Ratio
from fedlight.parts import Channels, TopK

HIDDEN = 16


class ByClient(Ratio):
    """Client n gets the n-th ratio."""

    def __init__(self, *ratios):
        self.ratios = ratios

    def choose(self, state, cohort):
        return {client: self.ratios[client] for client in cohort}


class Chosen(Contribution):
    """The first client counts for nothing in the first rounds."""

    def __init__(self, rounds):
        self.rounds = rounds

    def weights(self, state, clients):
        return {client: float(client > 0 or state.round_idx >= self.rounds) for client in clients}


def one_round(trainer, *ratios, nan=()):
    """The running mean after one round, and what the batches of all clients give: 0.1 · mean of the hidden layer."""
    torch.manual_seed(0)
    data, module = ToyData(), Classifier()
    # One step per round, so every client's statistics come from the weights that it was sent.
    expected = [0.1 * module.hidden(client.x).mean(0).detach() for client in data.clients]
    for client in nan:
        data.clients[client].x[0, 0] = math.nan
    parts = {**FedAvg().slots(), "ratio": ByClient(*ratios), "extraction": Channels(round_to=1)}
    server = Server(module, Algorithm(**parts), ToyFleet())
    trainer(1).fit(server, datamodule=data)
    assert {report.client for report in server.last_round.reports if not report.accepted} == set(nan)
    return server.client.norm.running_mean, expected


def test_the_statistics_are_those_of_the_widest_whenever_it_comes_back(trainer):
    """Clients are back in the order 0, 2, 1, 3: a wider one takes the place of what was merged before."""
    running, expected = one_round(trainer, 0.5, 0.0, 0.5, 0.25)
    torch.testing.assert_close(running, expected[1])


def test_a_widest_client_that_is_refused_leaves_the_statistics_to_the_next(trainer):
    running, expected = one_round(trainer, 0.0, 0.5, 0.25, 0.25, nan=(0,))
    mean = (SIZES[2] * expected[2] + SIZES[3] * expected[3]) / (SIZES[2] + SIZES[3])
    kept = running != 0
    assert int(kept.sum()) == HIDDEN * 3 // 4
    torch.testing.assert_close(running[kept], mean[kept])


def test_where_all_are_refused_the_statistics_stay(trainer):
    running, _ = one_round(trainer, 0.0, 0.5, 0.25, 0.25, nan=range(4))
    assert not running.any()


@pytest.mark.parametrize("rounds", [1, 2])
def test_who_counts_for_nothing_keeps_what_it_kept(trainer, rounds):
    """Error feedback of a client whose update was dropped: as if it had not come back."""
    torch.manual_seed(0)
    parts = {**FedAvg().slots(), "contribution": Chosen(rounds), "compression": TopK(0.2)}
    server = Server(Regressor(), Algorithm(**parts), ToyFleet())
    trainer(rounds).fit(server, datamodule=ToyData())
    assert sorted(server.memory.state_dict()["clients"]) == [1, 2, 3]
    trainer(rounds + 1).fit(server, datamodule=ToyData())
    assert sorted(server.memory.state_dict()["clients"]) == [0, 1, 2, 3]
