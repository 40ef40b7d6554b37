from __future__ import annotations

import io
import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedlight.tracking.history import History

rounds = st.lists(st.dictionaries(st.sampled_from("abcdef"), st.floats(-4, 4, width=32)), max_size=6)


def test_what_was_not_recorded_is_nan():
    history = History()
    history.record(0, {"a": 1.0})
    history.record(1, {"b": 2.0})
    history.record(2, {})
    expected = [[1.0, math.nan, math.nan], [math.nan, 2.0, math.nan]]
    np.testing.assert_array_equal(history.matrix(), expected)
    assert history.rows == ["a", "b"]


def test_later_rows_are_left_out_beyond_the_limit():
    history = History(max_rows=1)
    history.record(0, {"a": 1.0, "b": 2.0})
    history.record(1, {"b": 3.0, "a": 4.0})
    np.testing.assert_array_equal(history.matrix(), [[1.0, 4.0]])


@given(rounds, rounds)
def test_a_restart_changes_nothing(before, after):
    straight, first, second = History(4), History(4), History(4)
    for index, values in enumerate([*before, *after]):
        straight.record(index, values)
    for index, values in enumerate(before):
        first.record(index, values)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    second.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    for index, values in enumerate(after):
        second.record(len(before) + index, values)
    assert second.rows == straight.rows
    assert second.rounds == straight.rounds
    np.testing.assert_array_equal(second.matrix(), straight.matrix())
