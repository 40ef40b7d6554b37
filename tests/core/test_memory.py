"""What a client keeps comes back to it, entry by entry, whatever submodel it gets next."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedlight.core.clock import Clock
from fedlight.core.memory import ClientMemory
from fedlight.core.processes import Processes
from fedlight.core.types import Job, Timing, Update, Work
from fedlight.submodels.coverage import ChannelCoverage, MaskCoverage
from fedlight.submodels.structure import Group, Structure

A = torch.arange(5)
STRUCTURE = Structure(
    (Group("a", "channels", 0, 5, 1, (("a", 0), ("b", 1))),),
    {"a": (A, None), "b": (None, A)},
    {"a": (5, 3), "b": (2, 5), "c": (2,)},
)


def channels(*units):
    keep = torch.zeros(5, dtype=torch.bool)
    keep[list(units)] = True
    return ChannelCoverage(STRUCTURE, keep)


def values(coverage, seed):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(coverage.thin_shape(name), generator=generator) for name in STRUCTURE.shapes}


def job(coverage, client=0, dispatched_s=0.0, update=None):
    return Job(client, 0, 0.0, coverage, Work(1.0, 1, 1), Timing(0, 1, 0), dispatched_s, update)


def update_with(memory, client=0):
    return Update(client, 1, 1, {}, {}, {}, {}, 0, memory=memory)


def covered(coverage):
    """Full bool masks, by what gathering a tensor of positions brings."""
    found = {}
    for name, shape in STRUCTURE.shapes.items():
        numbers = torch.arange(1, torch.Size(shape).numel() + 1).view(shape)
        found[name] = torch.isin(numbers, coverage.gather(name, numbers.float()).long())
    return found


MASK = torch.tensor([[True, False, True], [False] * 3, [True] * 3, [False, True, False], [True] * 3])
KINDS = [channels(0, 1, 2, 3, 4), channels(0, 1), channels(1, 3), channels(4), MaskCoverage(STRUCTURE, {"a": MASK})]


@given(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=5))
def test_every_entry_keeps_what_was_last_written_to_it(kinds):
    memory = ClientMemory()
    expected = {name: torch.zeros(shape) for name, shape in STRUCTURE.shapes.items()}
    for seed, coverage in enumerate(kinds):
        written = values(coverage, seed)
        memory.put(job(coverage), update_with(written))
        grown = coverage.regrow(written, expected)
        expected = {name: torch.where(mask, grown[name], expected[name]) for name, mask in covered(coverage).items()}
        for other in KINDS:
            read = memory.get(0, other)
            assert all(torch.equal(read[name], other.gather(name, expected[name])) for name in expected)
    assert memory.get(1, KINDS[0]) == {}
    again = ClientMemory()
    again.load_state_dict(memory.state_dict())
    assert all(torch.equal(again.get(0, KINDS[0])[name], expected[name]) for name in expected)


def test_an_update_without_memory_leaves_it_alone():
    memory = ClientMemory()
    memory.put(job(KINDS[0]), update_with({}))
    assert len(memory) == 0


def test_what_is_stored_is_a_copy():
    memory, written = ClientMemory(), values(KINDS[0], 0)
    memory.put(job(KINDS[0]), update_with(written))
    before = written["a"].clone()
    written["a"].zero_()
    memory.get(0, KINDS[0])["a"].zero_()
    assert torch.equal(memory.get(0, KINDS[0])["a"], before)


def test_all_processes_know_what_each_has_stored():
    memories, told = [ClientMemory(), ClientMemory()], {}
    for client, memory in enumerate(memories):
        memory.put(job(channels(client), client), update_with(values(channels(client), client), client))

    class Gathering(Processes):
        def gather(self, values):
            told.update(values)
            return dict(told)

    memories[0].share(Gathering())
    memories[1].share(Gathering())
    memories[0].share(Gathering())
    for client in (0, 1):
        one, other = (memory.get(client, KINDS[0]) for memory in memories)
        assert one
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_jobs_of_one_client_stay_in_one_process(monkeypatch):
    """The second job of a client needs what the first left in its memory."""
    monkeypatch.setattr(Processes, "world_size", property(lambda _: 2))
    jobs = [job(KINDS[0], client, at) for client, at in ((0, 0.0), (1, 0.0), (0, 1.0), (2, 0.0), (1, 2.0))]
    shares = []
    for rank in (0, 1):
        monkeypatch.setattr(Processes, "rank", property(lambda _, rank=rank: rank))
        shares.append({one.client for one in Processes().share(jobs)})
    assert not shares[0] & shares[1]
    assert shares[0] | shares[1] == {0, 1, 2}


@pytest.mark.parametrize("coverage", KINDS[1:])
def test_a_job_in_flight_keeps_memory_share_and_level(coverage):
    clock = Clock()
    clock.push(
        Job(2, 0, 0.5, coverage, Work(1.0, 1, 1), Timing(0, 1, 0), 0.0, update_with(values(coverage, 1)), 0.25, 0.1)
    )
    again = Clock()
    again.load_state_dict(clock.state_dict(), STRUCTURE)
    one = again.pop()
    assert (one.share, one.level) == (0.25, 0.1)
    assert torch.equal(one.update.memory["a"], values(coverage, 1)["a"])
