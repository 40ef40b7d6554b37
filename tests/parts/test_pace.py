import math

import pytest

from fedlight.core.types import Timing
from fedlight.errors import ConfigError
from fedlight.parts.ratio import (
    BanditPace,
    ConstantPace,
    DiscountedUCB,
    Reward,
    ScheduledPace,
    SpeedAligned,
    StagnationPace,
)
from fedlight.parts.ratio.pace import Tempo


def tell(pace, make_state, make_report, losses, start=0):
    """Feed one loss per round and return the tempo that each round had."""
    tempos = []
    for round_idx, loss in enumerate(losses, start):
        state = make_state(round_idx)
        tempos.append(pace.tempo(state))
        pace.observe(state, [make_report(0, round_idx=round_idx, metrics={"train/loss": loss})])
    return tempos


@pytest.mark.parametrize(("target", "quantile"), [("fastest", 0.0), ("median", 0.5), ("slowest", 1.0), (0.25, 0.25)])
def test_a_constant_pace(target, quantile, make_state):
    assert ConstantPace(0.4, target).tempo(make_state(7)) == Tempo(0.4, quantile)


def test_a_constant_pace_may_end_with_the_whole_model_for_everyone(make_state):
    pace = ConstantPace(0.3, "median", whole_after_s=10.0)
    tempos = [pace.tempo(make_state(3, now_s=now_s)) for now_s in (0.0, 9.9, 10.0, 99.0)]
    assert tempos == [Tempo(0.3, 0.5), Tempo(0.3, 0.5), Tempo(0.0, 1.0), Tempo(0.0, 1.0)]


def test_a_schedule_by_the_clock(make_state):
    pace = ScheduledPace([0.7, 0.2, 0.0], [10, 110, 210], [0.0, 0.0, 1.0])
    for now_s, level, quantile in (
        (0, 0.7, 0),
        (10, 0.7, 0),
        (60, 0.45, 0),
        (110, 0.2, 0),
        (160, 0.1, 0.5),
        (999, 0, 1),
    ):
        tempo = pace.tempo(make_state(3, now_s=float(now_s)))
        assert (tempo.level, tempo.quantile) == pytest.approx((level, quantile))
    by_round = ScheduledPace([0.7, 0.2], [0, 10], unit="rounds").tempo(make_state(5, now_s=999.0))
    assert by_round.level == pytest.approx(0.45)


def test_stagnation_lowers_the_level_and_then_raises_the_quantile(make_state, make_report):
    pace = StagnationPace(start=0.3, step=0.2, patience=2, threshold=0.1, end_quantile=0.5, quantile_step=0.4)
    # 2 and 1 are progress, .95 and 1 are not: the fifth round is a step lower. 3 starts anew; twice nothing is a step.
    losses = [2.0, 1.0, 0.95, 1.0, 3.0, 3.0, 3.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    tempos = tell(pace, make_state, make_report, losses)
    assert [tempo.level for tempo in tempos] == [0.3] * 4 + [0.1] * 3 + [0.0] * 7
    assert [tempo.quantile for tempo in tempos] == [0.0] * 10 + [0.4] * 3 + [0.5]
    pace.observe(make_state(14), [make_report(0)])  # who tells no loss doesn't count
    assert pace.tempo(make_state(14)) == Tempo(0.0, 0.5)


def test_progress_is_measured_by_the_first_loss(make_state, make_report):
    pace = StagnationPace(start=0.4, step=0.2, patience=1, threshold=0.1)
    tell(pace, make_state, make_report, [2.0, 0.5])
    assert pace.tempo(make_state(2)).level == 0.4
    tell(pace, make_state, make_report, [0.35])  # less by 30 %, but by less than a tenth of 2
    assert pace.tempo(make_state(3)).level == 0.2


def test_a_bandit_learns_the_level_of_most_progress(make_state, make_report):
    """Per second, level .4 gains most: a unit of loss in 2 s; level 0 gains one in 8 s, level .8 a tenth in 1 s."""
    seconds, gain = {0.0: 8.0, 0.4: 2.0, 0.8: 1.0}, {0.0: 1.0, 0.4: 1.0, 0.8: 0.1}
    bandit = DiscountedUCB(list(seconds), discount=0.95, bonus_scale=0.1)
    pace, loss, played = BanditPace(bandit, Reward("global_loss", per="round_s")), 100.0, []
    for round_idx in range(40):
        level = pace.tempo(make_state(round_idx)).level
        assert pace.tempo(make_state(round_idx)).level == level  # one per round, however often it is asked
        played.append(level)
        loss -= gain[level]
        report = make_report(0, total_s=seconds[level], round_idx=round_idx, metrics={"train/loss": loss})
        pace.observe(make_state(round_idx), [report])
    assert played.count(0.4) > 25
    assert pace.metrics()["bandit/arms"] == 3


@pytest.mark.parametrize("make", [lambda: StagnationPace(patience=1), BanditPace])
def test_paces_survive_a_restart(make, make_state, make_report):
    losses = [2 + math.sin(3 * round_idx) for round_idx in range(20)]
    whole, first, second = make(), make(), make()
    expected = tell(whole, make_state, make_report, losses)
    tell(first, make_state, make_report, losses[:9])
    second.load_state_dict(first.state_dict())
    assert tell(second, make_state, make_report, losses[9:], start=9) == expected[9:]
    assert len(set(expected)) > 1


def test_at_last_everyone_trains_the_full_model(make_state, make_report):
    """Four speeds; once the slowest client's time with the full model is the target, nobody loses anything."""
    part = SpeedAligned(ScheduledPace([0.7, 0.0, 0.0], [0, 5, 10], [0.0, 0.0, 1.0], unit="rounds"), hysteresis=0.02)
    ratios, times_s = [], []
    for round_idx in range(12):
        state = make_state(round_idx)
        chosen = part.choose(state, range(4))
        works = {client: state.price(client, chosen[client]) for client in chosen}
        times = {n: Timing(0.0, work.macs * 2.0**n, 0.0) for n, work in works.items()}
        part.observe(state, [make_report(n, chosen[n], work=works[n], timing=times[n]) for n in chosen])
        ratios.append(chosen)
        times_s.append([times[n].total_s for n in chosen])
    assert ratios[0] == dict.fromkeys(range(4), 0.5)  # nothing is known
    assert ratios[5][0] == 0.0
    assert ratios[5][3] == pytest.approx(1 - math.sqrt(1 / 8), abs=0.01)  # macs go by the square of what is kept
    assert all(max(times) <= times[0] * (1 + 1e-6) for times in times_s[1:6])
    assert ratios[11] == dict.fromkeys(range(4), 0.0)
    assert part.metrics()["ratio/quantile"] == 1.0


def test_wrong_constants_are_refused():
    for message, make in {
        "level=1.0 is outside": lambda: ConstantPace(1.0),
        "whole_after_s=-1.0 is no time": lambda: ConstantPace(0.3, whole_after_s=-1.0),
        "target='half' is no quantile": lambda: ConstantPace(0.3, "half"),
        "levels is empty": lambda: ScheduledPace([]),
        r"levels\[1\]=1.5 is outside": lambda: ScheduledPace([0.5, 1.5]),
        "2 levels, 3 points": lambda: ScheduledPace([0.5, 0.2], [0, 1, 2]),
        r"quantiles\[0\]=2 is no quantile": lambda: ScheduledPace([0.5, 0.2], quantiles=[2, 0]),
        "doesn't rise": lambda: ScheduledPace([0.5, 0.2], [10, 10]),
        "unit='min'": lambda: ScheduledPace(unit="min"),
        "end=0.9 is above start": lambda: StagnationPace(end=0.9),
        "step=0.0": lambda: StagnationPace(step=0.0),
        "patience=0": lambda: StagnationPace(patience=0),
        "threshold=1.0": lambda: StagnationPace(threshold=1.0),
        "end_quantile=0.2 is below target": lambda: StagnationPace(target="median", end_quantile=0.2),
        "per='gap' is a client's own": lambda: BanditPace(reward=Reward()),
    }.items():
        with pytest.raises(ConfigError, match=message):
            make()
