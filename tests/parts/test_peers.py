"""Whom parts compare a client's time with, where cohorts are sent and where clients come one by one."""

from dataclasses import replace

import pytest

from fedlight.core.types import Timing, Work
from fedlight.parts import Buffered, StagnationPace, Synchronous, TimeMatchedWork
from fedlight.parts.compression import TimeMatchedLevel
from fedlight.parts.ratio import ConstantPace, SpeedAligned
from fedlight.parts.ratio.pace import Tempo


def observe(part, make_state, make_report):
    """Three clients of 1, 2 and 4 seconds, all of it computing, or all of it upload for a level."""
    state, reports = make_state(), []
    for client, seconds in enumerate((1.0, 2.0, 4.0)):
        work = state.price(client, 0.0)
        timing = Timing(0.0, 0.0, seconds) if isinstance(part, TimeMatchedLevel) else Timing(0.0, seconds, 0.0)
        reports.append(make_report(client, 0.0, work=work, timing=timing))
    if isinstance(part, SpeedAligned):
        part.observe(state, reports)
    else:
        part.observe(reports)


@pytest.mark.parametrize(("schedule", "share"), [(Synchronous(), 1.0), (Buffered(), 0.25)])
def test_work_is_matched_with_all_that_were_seen(schedule, share, make_state, make_report):
    part = TimeMatchedWork()
    part.meet({"schedule": schedule})
    observe(part, make_state, make_report)
    assert part.shares(make_state(), [2], {2: 0.0}, 1)[2] == pytest.approx(share)
    copy = TimeMatchedWork()
    copy.meet({"schedule": schedule})
    copy.load_state_dict(part.state_dict())
    assert copy.shares(make_state(), [2], {2: 0.0}, 1)[2] == pytest.approx(share)


@pytest.mark.parametrize(("schedule", "is_whole"), [(Synchronous(), True), (Buffered(), False)])
def test_levels_are_matched_with_all_that_were_seen(schedule, is_whole, make_state, make_report):
    part = TimeMatchedLevel()
    part.meet({"schedule": schedule})

    def priced():
        return replace(make_state(), price=lambda client, ratio, share=1.0, level=1.0: Work(0.0, 0, int(1000 * level)))

    observe(part, priced, make_report)
    assert (part.levels(priced(), [2], {2: 0.0}, {2: 1.0})[2] == 1.0) == is_whole


@pytest.mark.parametrize(("schedule", "is_whole"), [(Synchronous(), True), (Buffered(), False)])
def test_ratios_are_aligned_with_all_that_were_seen(schedule, is_whole, make_state, make_report):
    part = SpeedAligned(ConstantPace(0.0))
    part.meet({"schedule": schedule})
    observe(part, make_state, make_report)
    assert (part.choose(make_state(1), [2])[2] == 0.0) == is_whole
    assert part.choose(make_state(1), [0])[0] == 0.0


def test_a_window_of_updates_makes_the_pace_independent_of_how_they_come(make_state, make_report):
    losses = [2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]  # 2, 1 by fours; and nothing new after that
    by_four, by_one = (StagnationPace(0.5, 0.2, patience=1, window=4) for _ in range(2))
    four = [make_report(n % 4, metrics={"train/loss": loss}) for n, loss in enumerate(losses * 2)]
    for start in range(0, len(four), 4):
        by_four.observe(make_state(start), four[start : start + 4])
    for number, report in enumerate(four):
        by_one.observe(make_state(number), [report])
    # Means of four: 1.5, 1, 1.5 (no progress: a step), 1.
    assert by_four.tempo(make_state()) == by_one.tempo(make_state()) == Tempo(0.3, 0.0)
    assert by_four.state_dict() == by_one.state_dict()
    every = StagnationPace(0.5, 0.2, patience=1)
    for number, report in enumerate(four):
        every.observe(make_state(number), [report])
    assert every.tempo(make_state()) != by_one.tempo(make_state())


@pytest.mark.parametrize(("schedule", "window"), [(Buffered(1, 4), 4), (Buffered(1), 100), (Synchronous(3), None)])
def test_a_pace_looks_at_as_many_updates_as_are_at_work(schedule, window, make_state, make_report):
    """100 clients are registered. With a window of its own it looks at that many, whatever the schedule."""
    told, own = StagnationPace(0.5, 0.2, patience=1), StagnationPace(0.5, 0.2, patience=1, window=7)
    plain, seven = (StagnationPace(0.5, 0.2, patience=1, window=size) for size in (window, 7))
    told.meet({"schedule": schedule})
    own.meet({"schedule": schedule})
    for number in range(250):
        report = make_report(number, metrics={"train/loss": 1.0 + number % 4})
        for pace in (told, own, plain, seven):
            pace.observe(make_state(number), [report])
    assert told.state_dict() == plain.state_dict()
    assert own.state_dict() == seven.state_dict() != told.state_dict()
