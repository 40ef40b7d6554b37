"""What is kept of a client expires when it has been silent for too long."""

import numpy as np
import pytest
import torch

from fedlight.core.expiry import Expiry
from fedlight.core.memory import ClientMemory
from fedlight.core.types import Job, Report, Timing, Work
from fedlight.errors import ConfigError


def back(client, finish_s):
    return Report(
        client, 0, 0.0, Work(1.0, 1, 1), Timing(0.0, 1.0, 0.0), finish_s, 1, {}, 1.0, None, True, 1
    )  # fmt: skip


def test_a_client_expires_once_after_its_time_to_live():
    expiry = Expiry(10.0)
    expiry.hear([back(3, 1.0), back(1, 4.0), back(2, 4.0)])
    assert expiry.expired(11.0, busy=()) == []  # 10 s after 1 s: not longer than that
    assert expiry.expired(11.5, busy=()) == [3]
    assert expiry.expired(11.5, busy=()) == []
    expiry.hear([back(1, 12.0)])
    assert expiry.expired(20.0, busy=[2]) == []  # at work
    assert expiry.expired(20.0, busy=()) == [2]
    again = Expiry(10.0)
    again.load_state_dict(expiry.state_dict())
    assert again.expired(22.5, busy=()) == [1]


def test_without_a_time_to_live_nothing_expires_and_nothing_is_remembered():
    expiry = Expiry(None)
    expiry.hear([back(3, 1.0)])
    assert expiry.expired(1e9, busy=()) == []
    assert expiry.state_dict() == {"heard_s": {}}
    with pytest.raises(ConfigError, match=r"state_ttl_s=0\.0 is no time to live"):
        Expiry(0.0)


def test_memories_of_the_expired_are_gone():
    memory = ClientMemory()
    memory.load_state_dict({"clients": {1: {"w": torch.ones(2)}, 2: {"w": torch.ones(2)}}})
    memory.forget([1, 7])
    assert list(memory.state_dict()["clients"]) == [2]
    assert np.isfinite(len(memory))


def test_a_lost_job_counts_from_its_dispatch():
    """Nobody ever heard from client 5, but it was sent off at 2 s, and what was drawn for it then goes too."""
    expiry = Expiry(10.0)
    lost = [Job(n, 0, 0.0, None, Work(1.0, 1, 1), Timing(0.0, 9.0, 0.0), 2.0, lost_s=6.0) for n in (5, 1)]
    expiry.hear([back(1, 4.0)], lost)
    assert expiry.expired(12.0, busy=()) == []
    assert expiry.expired(12.5, busy=()) == [5]
    assert expiry.expired(14.5, busy=()) == [1]  # the later of the two counts
