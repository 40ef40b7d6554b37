import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlight.core.idle import Idle


@given(up=st.sets(st.integers(0, 30)), busy=st.sets(st.integers(0, 30)), as_range=st.booleans())
def test_idle_is_up_less_at_work(up, busy, as_range):
    ascending = range(3, 20) if as_range else np.array(sorted(up), dtype=np.int64)
    expected = [client for client in ascending if client not in busy]
    idle = Idle(ascending, busy)
    assert len(idle) == len(expected)
    assert [idle[index] for index in range(len(idle))] == expected
    assert list(idle) == np.asarray(idle).tolist() == expected
    assert idle[1:3] == expected[1:3]
    assert all((client in idle) == (client in expected) for client in range(31))
    with pytest.raises(IndexError):
        idle[len(expected)]
    if expected:
        assert idle[-1] == expected[-1]
