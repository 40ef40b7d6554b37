"""What normalisation layers do in clients and before an evaluation."""

from types import SimpleNamespace

import pytest
import torch
from clients import Examples, Net, classes
from torch import nn

from fedlight.core.buffers import BufferSum
from fedlight.errors import ConfigError
from fedlight.parts.aggregation import CoverageMean
from fedlight.parts.norm import BatchStatistics, RunningStatistics, StaticStatistics
from fedlight.submodels import ChannelCoverage

BATCHES = Examples(torch.tensor([[0.0], [2.0], [4.0], [6.0]]), torch.zeros(4), batch_size=2)


def layer():
    """A network that is one normalisation layer, used to other data."""
    module = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(1, affine=False))
    module[1].running_mean.fill_(100.0)
    return module.eval()


def test_running_statistics_leave_everything_as_it_is():
    module, policy = Net().eval(), RunningStatistics()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    policy.prepare(module)
    policy.before_evaluation(module, None, lambda batch: module(batch[0]))
    assert policy.travels
    assert module.body[1].track_running_stats
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_running_statistics_come_from_the_widest_submodels():
    wide, thin = (SimpleNamespace(ratio=ratio) for ratio in (0.25, 0.5))
    assert RunningStatistics().rank(wide) < RunningStatistics().rank(thin)
    assert BatchStatistics().rank(wide) == BatchStatistics().rank(thin)


def test_the_widest_are_those_of_all_processes(make_state, make_update, two_processes):
    """Each process merges the widest that it has; in the end only those of the widest of all count."""
    state, full = make_state(), torch.ones(10, dtype=torch.bool)
    coverage = ChannelCoverage(state.plan.structure, full)
    jobs = [SimpleNamespace(coverage=coverage, ratio=ratio) for ratio in (0.5, 0.25, 0.75)]
    updates = [make_update(coverage, client) for client in range(3)]

    def body(rank, reduce):
        buffers = BufferSum(CoverageMean(), {"a.weight", "a.bias", "b.weight", "c.weight", "c.bias"})
        buffers.begin(state, jobs)
        for number in ((0, 1), (2,))[rank]:
            buffers.add(jobs[number], updates[number], 1.0 + number, RunningStatistics().rank(jobs[number]))
        return buffers.finish(reduce, 0.25)

    for merged in two_processes(body):
        assert merged.keys() == {"stat"}
        torch.testing.assert_close(merged["stat"], updates[1].buffers["stat"])


@pytest.mark.parametrize("policy", [StaticStatistics(), BatchStatistics()])
def test_clients_normalise_by_the_batch_and_track_nothing(policy):
    module, data = Net(dropout=0.0), classes()
    expected = module(data.x)
    mean = module.body[1].running_mean.clone()
    policy.prepare(module)
    assert torch.equal(module(data.x), expected)
    assert torch.equal(module.body[1].running_mean, mean)
    assert not policy.travels


@pytest.mark.parametrize("policy", [StaticStatistics(), BatchStatistics()])
def test_a_layer_that_is_frozen_in_evaluation_mode_goes_on_using_its_statistics(policy):
    module, data = Net(dropout=0.0), classes()
    module.body[1].eval()
    expected = module(data.x)
    policy.prepare(module)
    assert torch.equal(module(data.x), expected)


def test_static_statistics_are_the_mean_over_the_servers_batches():
    module = layer()
    StaticStatistics().before_evaluation(module, BATCHES, lambda batch: module(batch[0]))
    assert module[1].running_mean.item() == 3.0
    # Unbiased variance of a batch {a, b} is (a - b)² / 2.
    pairs = [batch[0] for batch in BATCHES.epoch(torch.Generator().manual_seed(0))]
    assert module[1].running_var.item() == pytest.approx(sum((a - b).item() ** 2 / 2 for a, b in pairs) / 2)
    assert module[1].momentum == 0.1
    assert not any(part.training for part in module.modules())


def test_static_statistics_are_estimated_without_dropout_and_keep_the_mode():
    module = layer().train()
    StaticStatistics().before_evaluation(module, BATCHES, lambda batch: module(batch[0]))
    assert module[1].running_mean.item() == 3.0
    assert all(part.training for part in module.modules())


def test_static_statistics_do_not_depend_on_what_was_before():
    first, second = layer(), layer()
    second[1].running_var.fill_(7.0)
    for module in (first, second, second):
        StaticStatistics().before_evaluation(module, BATCHES, lambda batch, module=module: module(batch[0]))
    assert torch.equal(first[1].running_var, second[1].running_var)


def test_static_statistics_also_estimate_after_clients_stopped_tracking():
    module = layer()
    policy = StaticStatistics()
    policy.prepare(module)
    policy.before_evaluation(module, BATCHES, lambda batch: module(batch[0]))
    assert module[1].running_mean.item() == 3.0


def test_static_statistics_need_server_data_only_where_there_is_something_to_estimate():
    with pytest.raises(ConfigError, match=r"needs examples that the server holds.*RunningStatistics"):
        StaticStatistics().before_evaluation(layer(), None, lambda batch: None)
    StaticStatistics().before_evaluation(nn.Linear(1, 1), None, lambda batch: None)


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.InstanceNorm1d])
def test_batch_statistics_are_used_in_evaluation(kind):
    module = nn.Sequential(kind(2, track_running_stats=True)).eval()
    module[0].running_mean.fill_(50.0)
    BatchStatistics().before_evaluation(module, None, lambda batch: None)
    x = torch.randn(4, 2, 8)
    with torch.no_grad():
        normalised = module(x)
    dims = (0, 2) if kind is nn.BatchNorm1d else 2
    assert torch.allclose(normalised.mean(dims), torch.zeros(1), atol=1e-5)
    assert (module[0].running_mean == 50).all()
