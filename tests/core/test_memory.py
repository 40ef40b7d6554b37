"""What a client keeps comes back to it, entry by entry, whatever submodel it gets next."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.callbacks import ModelCheckpoint
from toy import Regressor, ToyData, ToyFleet

from fedlight.algorithms import FedAvg
from fedlight.core import Algorithm, Server
from fedlight.core.clock import Clock
from fedlight.core.memory import ClientMemory
from fedlight.core.processes import Processes
from fedlight.core.schedule import Schedule
from fedlight.core.slots import Compression
from fedlight.core.types import Job, Timing, Update, Work
from fedlight.parts import LeanLoop, Proximal, Stragglers, TopK
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
    one = again.next_return()
    assert (one.share, one.level) == (0.25, 0.1)
    assert torch.equal(one.update.memory["a"], values(coverage, 1)["a"])


class Overlapping(Schedule):
    """Move after every fifth return with three clients at work: a fast one is back twice in a round."""

    def check(self, num_clients):
        pass

    def advance(self, clock, dispatch):
        finished = []
        while len(finished) < 5:
            dispatch(3 - len(clock))
            finished.append(clock.next_return())
        return finished


class Watched(Compression):
    """Top-k, and a note of what went in and what came out."""

    def __init__(self):
        self.top, self.told = TopK(), {}

    def levels(self, state, cohort, ratios, shares):
        return dict.fromkeys(cohort, 0.2)

    def upload_bytes(self, cost, level=1.0):
        return self.top.upload_bytes(cost, level)

    def encode(self, update, task):
        sent = self.top.encode(update, task)
        self.told.setdefault(task.client, []).append((update.delta, sent.delta, sent.memory))
        return sent


def overlapping(trainer, folder, rounds, resume=None):
    torch.manual_seed(0)
    local = LeanLoop(epochs=3, work=Stragglers(0.5), proximal=Proximal(mu=0.1, adaptive=True))
    parts = {**FedAvg(local=local).slots(), "schedule": Overlapping(), "compression": Watched()}
    server = Server(Regressor(), Algorithm(**parts), ToyFleet(), seed=3)
    keep = ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)
    trainer(rounds, enable_checkpointing=True, callbacks=[keep]).fit(server, datamodule=ToyData(), ckpt_path=resume)
    return server


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_memories_outlive_a_restart_with_jobs_in_flight(trainer, tmp_path):
    whole = overlapping(trainer, tmp_path / "whole", 6)
    overlapping(trainer, tmp_path / "part", 3)
    again = overlapping(trainer, tmp_path / "part", 6, tmp_path / "part" / "epoch=2.ckpt")
    for name, value in whole.client.state_dict().items():
        assert torch.equal(again.client.state_dict()[name], value)
    assert again.algorithm.local.metrics() == whole.algorithm.local.metrics()
    one, other = (server.memory.state_dict()["clients"] for server in (whole, again))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[client][name], other[client][name]) for client in one for name in one[client])


def test_nothing_is_lost_when_a_client_is_back_twice_in_a_round(trainer, tmp_path):
    server = overlapping(trainer, tmp_path, 4)
    told, stored = server.algorithm.compression.told, server.memory.state_dict()["clients"]
    assert max(len(notes) for notes in told.values()) > 4  # oftener than there were rounds
    in_flight = {job.client for job in server.clock.jobs() if job.update is not None}
    for client, notes in told.items():
        for name, kept in notes[-1][2].items():
            wanted = sum(delta[name].double() for delta, _, _ in notes)
            sent = sum(sent[name].double() for _, sent, _ in notes)
            torch.testing.assert_close(sent + kept, wanted, rtol=0, atol=1e-6)
            if client not in in_flight:
                assert torch.equal(stored[client][name], kept)
