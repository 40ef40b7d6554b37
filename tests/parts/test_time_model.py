import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlight.core.types import Timing, Work
from fedlight.errors import ConfigError
from fedlight.parts.time_model import TimeModel

SMALL, LARGE = Work(1e6, 1000, 2000), Work(4e6, 3000, 6000)


def device(speed=1e6, bytes_per_s=1e3, latency_s=0.0):
    def timing(work, noise=1.0):
        return Timing(
            noise * (latency_s + work.download_bytes / bytes_per_s),
            noise * work.macs / speed,
            noise * (latency_s + work.upload_bytes / bytes_per_s),
        )

    return timing


@given(speed=st.floats(1e3, 1e12), bytes_per_s=st.floats(1.0, 1e9))
def test_one_observation_tells_a_device_without_latency(speed, bytes_per_s):
    model, timing = TimeModel(), device(speed, bytes_per_s)
    model.observe([7], [SMALL], [timing(SMALL)])
    assert model.predict_s(7, LARGE) == pytest.approx(timing(LARGE).total_s, rel=1e-6)


def test_knows_nothing_before_the_first_observation():
    assert len(TimeModel()) == 0
    assert TimeModel().predict_s(3, LARGE) == 0.0


def test_the_fixed_part_shows_as_works_differ():
    model, timing = TimeModel(forgetting=1.0), device(latency_s=2.0)
    for step in range(40):
        work = (SMALL, LARGE)[step % 2]
        model.observe([0], [work], [timing(work)])
    for work in (SMALL, LARGE, Work(2e6, 1500, 9000)):
        assert model.predict_s(0, work) == pytest.approx(timing(work).total_s, rel=0.02)


def test_a_change_of_speed_is_followed():
    model = TimeModel(forgetting=0.8)
    for _ in range(20):
        model.observe([0], [SMALL], [device(speed=1e6)(SMALL)])
    for _ in range(20):
        model.observe([0], [SMALL], [device(speed=2e5)(SMALL)])
    assert model.predict_s(0, LARGE) == pytest.approx(device(speed=2e5)(LARGE).total_s, rel=0.05)


def test_noise_averages_out():
    model, rng, timing = TimeModel(forgetting=1.0), np.random.default_rng(0), device(latency_s=1.0)
    for step in range(300):
        work = (SMALL, LARGE)[step % 2]
        model.observe([0], [work], [timing(work, float(np.exp(0.1 * rng.standard_normal())))])
    assert model.predict_s(0, LARGE) == pytest.approx(timing(LARGE).total_s, rel=0.05)


def test_a_stranger_is_the_median_of_the_others():
    model, speeds = TimeModel(), (1e5, 1e6, 1e7)
    model.observe([0, 1, 2], [SMALL] * 3, [device(speed)(SMALL) for speed in speeds])
    assert model.predict_s(99, LARGE) == pytest.approx(device(1e6)(LARGE).total_s)
    assert len(model) == 3


def test_state_is_kept_for_clients_seen_only_and_survives_a_restart():
    first = TimeModel()
    first.observe([5, 100_000], [SMALL, LARGE], [device(1e5)(SMALL), device()(LARGE)])
    second = TimeModel()
    second.load_state_dict(first.state_dict())
    assert first.state_dict()["moments"].shape == (2, 3, 6)
    for model in (first, second):
        model.observe([5, 6], [LARGE, SMALL], [device(2e5)(LARGE), device(latency_s=1.0)(SMALL)])
    for client in (5, 6, 100_000, 7):
        assert first.predict_s(client, LARGE) == second.predict_s(client, LARGE)
    TimeModel().load_state_dict(TimeModel().state_dict())


def test_times_of_zero_do_no_harm():
    model = TimeModel()
    model.observe([0], [Work(0.0, 0, 0)], [Timing(0.0, 0.0, 0.0)])
    assert model.predict_s(0, LARGE) == 0.0


def test_wrong_forgetting_is_refused():
    with pytest.raises(ConfigError, match=r"forgetting=0.0"):
        TimeModel(forgetting=0.0)


def test_a_client_that_was_never_seen_is_the_median_of_its_device_class():
    model = TimeModel()
    speeds = {0: 1e6, 1: 2e6, 2: 4e6, 3: 1e8, 4: 2e8, 5: 4e8}
    devices = ["slow"] * 3 + ["fast"] * 3
    model.observe(list(speeds), [SMALL] * 6, [device(speed)(SMALL) for speed in speeds.values()], devices)
    assert model.predict_s(9, LARGE, "slow") == pytest.approx(device(2e6)(LARGE).total_s)
    assert model.predict_s(9, LARGE, "fast") == pytest.approx(device(2e8)(LARGE).total_s)
    assert model.predict_s(9, LARGE, "other") == model.predict_s(9, LARGE)
    assert model.predict_s(0, LARGE, "fast") == pytest.approx(device(1e6)(LARGE).total_s)
    again = TimeModel()
    again.load_state_dict(model.state_dict())
    assert again.predict_s(9, LARGE, "fast") == model.predict_s(9, LARGE, "fast")


def test_who_is_forgotten_is_new_again():
    model, kept = TimeModel(), TimeModel()
    model.observe([4, 5, 6], [SMALL] * 3, [device(speed)(SMALL) for speed in (1e6, 2e6, 8e6)], ["a", "a", "b"])
    kept.observe([5, 6], [SMALL] * 2, [device(speed)(SMALL) for speed in (2e6, 8e6)], ["a", "b"])
    model.forget([4, 99])
    assert model.clients == (5, 6)
    for client in (5, 6):
        assert model.predict_s(client, LARGE) == pytest.approx(kept.predict_s(client, LARGE))
    assert model.predict_s(4, LARGE, "a") == pytest.approx(device(2e6)(LARGE).total_s)
