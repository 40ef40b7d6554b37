import math

import jsonargparse
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlight.core.fleet import Fleet
from fedlight.core.types import Work
from fedlight.errors import ConfigError
from fedlight.fleet import (
    AdaptiveFLBoards,
    AutoFLPhones,
    DeviceClass,
    DeviceFleet,
    EdgeBoards,
    FedGMRLinks,
    FedGMRTiers,
    High,
    Homogeneous,
    JetsonTX2,
    Phones,
    RaspberryJetson,
    ThreeTier,
    largest_remainder,
    training_bytes,
)
from fedlight.submodels.structure import Cost

READY = [
    AdaptiveFLBoards,
    AutoFLPhones,
    EdgeBoards,
    FedGMRLinks,
    FedGMRTiers,
    High,
    Homogeneous,
    JetsonTX2,
    Phones,
    RaspberryJetson,
    ThreeTier,
]


def ready(fleet: DeviceFleet, num_clients: int = 20, seed: int = 0) -> DeviceFleet:
    fleet.setup(num_clients, seed)
    return fleet


def client_of(fleet: DeviceFleet, device: str) -> int:
    return next(k for k in fleet.candidates(0.0) if fleet.device(k) == device)


def test_time_is_download_then_compute_then_upload():
    link = DeviceClass("a", 1, macs_per_s=2e9, down_bits_per_s=8e6, up_bits_per_s=4e6, latency_s=0.5)
    timing = ready(DeviceFleet([link]), 1).timing(
        0, Work(macs=6e9, download_bytes=3_000_000, upload_bytes=1_000_000), 0
    )
    assert timing.download_s == pytest.approx(0.5 + 3)  # 24 Mbit at 8 Mbit/s
    assert timing.compute_s == pytest.approx(3)
    assert timing.upload_s == pytest.approx(0.5 + 2)  # 8 Mbit at 4 Mbit/s
    assert timing.total_s == pytest.approx(9)


def test_the_prototypes_fleet_gives_the_prototypes_times():
    """T = 6 · MACs · samples / (FLOP/s) + 64 · parameters / bandwidth, with 32-bit parameters sent both ways."""
    fleet = ready(High(noise=0))
    macs, samples, parameters = 7e6, 300, 580_000
    work = Work(macs=3 * macs * samples, download_bytes=4 * parameters, upload_bytes=4 * parameters)
    for device, flops, bandwidth in (("fast", 40e9, 20e6), ("medium", 10e9, 10e6), ("slow", 4e9, 4e6)):
        expected = 6 * macs * samples / flops + 64 * parameters / bandwidth
        assert fleet.timing(client_of(fleet, device), work, 0).total_s == pytest.approx(expected)
    assert {row.device: row.num_clients for row in fleet.describe()} == {"fast": 7, "medium": 7, "slow": 6}


def test_what_is_expected_is_the_median_of_what_happens():
    work, noisy = Work(1e9, 10**6, 10**6), ready(Homogeneous(noise=0.2), 5)
    times = [noisy.timing(3, work, round_idx).total_s for round_idx in range(1001)]
    assert np.median(times) == pytest.approx(noisy.expected_timing(3, work, 0).total_s, rel=0.03)
    assert noisy.expected_timing(3, work, 0) == ready(Homogeneous(), 5).timing(3, work, 7)


def test_noise_stretches_the_whole_round_and_is_log_normal():
    work = Work(1e9, 10**6, 10**6)
    noisy, quiet = ready(Homogeneous(noise=0.2), 5), ready(Homogeneous(), 5)
    factors = []
    for round_idx in range(800):
        ours, theirs = noisy.timing(3, work, round_idx), quiet.timing(3, work, round_idx)
        factor = ours.total_s / theirs.total_s
        assert ours.compute_s / theirs.compute_s == pytest.approx(factor)
        assert ours.upload_s / theirs.upload_s == pytest.approx(factor)
        factors.append(math.log(factor))
    assert np.mean(factors) == pytest.approx(0, abs=0.02)
    assert np.std(factors) == pytest.approx(0.2, rel=0.08)


def test_noise_depends_on_seed_round_and_client_alone():
    work = Work(1e9, 10**6, 10**6)
    fleet, again = ready(Homogeneous(noise=0.2), 5), ready(Homogeneous(noise=0.2), 5)
    again.timing(0, work, 7)  # an earlier draw must not matter
    first = fleet.timing(2, work, 3)
    assert first == again.timing(2, work, 3) == fleet.timing(2, work, 3)
    others = [
        fleet.timing(1, work, 3),
        fleet.timing(2, work, 4),
        ready(Homogeneous(noise=0.2), 5, 1).timing(2, work, 3),
    ]
    assert all(other != first for other in others)


def test_who_has_which_device_is_drawn_from_the_seed():
    def devices(seed: int) -> list[str]:
        fleet = ready(High(), 20, seed)
        return [fleet.device(k) for k in range(20)]

    assert devices(0) == devices(0)
    assert devices(0) != devices(1)
    assert sorted(devices(0)) == sorted(devices(1))


def test_all_clients_are_always_up():
    assert list(ready(High(), 4).candidates(1e9)) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("shares", "total", "expected"),
    [
        ([7, 7, 6], 20, [7, 7, 6]),
        ([0.25, 0.5, 0.25], 10, [3, 5, 2]),  # 2.5, 5, 2.5: the tie goes to the first
        ([0.7, 0.2, 0.1], 10, [7, 2, 1]),
        ([1, 1, 1], 2, [1, 1, 0]),
        ([0.5, 0.3, 0.2], 11, [6, 3, 2]),  # 5.5, 3.3, 2.2
    ],
)
def test_largest_remainder_by_hand(shares, total, expected):
    assert largest_remainder(shares, total).tolist() == expected


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=8), st.integers(0, 1000))
def test_counts_sum_to_the_fleet_and_stay_within_one_of_the_quota(shares, total):
    counts = largest_remainder(shares, total)
    quotas = np.array(shares) / sum(shares) * total
    assert counts.sum() == total
    assert (abs(counts - quotas) < 1 + 1e-6).all()


@pytest.mark.parametrize("fleet", READY, ids=lambda fleet: fleet.__name__)
def test_ready_fleets_are_fleets_that_a_config_can_name(fleet):
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Fleet, "fleet")
    config = parser.parse_object(
        {"fleet": {"class_path": f"fedlight.fleet.{fleet.__name__}", "init_args": {"noise": 0}}}
    )
    built = ready(parser.instantiate(config).fleet, 40)
    assert isinstance(built, fleet)
    assert sum(row.num_clients for row in built.describe()) == 40
    assert built.timing(0, Work(1e9, 10**6, 10**6), 0).total_s > 0


def test_a_config_can_spell_a_fleet_out():
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Fleet, "fleet")
    entry = {"name": "a", "share": 1, "macs_per_s": 1e9, "down_bits_per_s": 1e6, "up_bits_per_s": 1e6}
    limited = {**entry, "name": "b", "speed_spread": 0.3, "speed_limits": [5e8, 2e9]}
    config = parser.parse_object(
        {"fleet": {"class_path": "fedlight.fleet.DeviceFleet", "init_args": {"classes": [entry, limited]}}}
    )
    fleet = ready(parser.instantiate(config).fleet, 10)
    assert [(row.device, row.num_clients) for row in fleet.describe()] == [("a", 5), ("b", 5)]


def test_jetson_modes_follow_their_clocks():
    speeds = {row.device: row.macs_per_s for row in ready(JetsonTX2()).describe()}
    assert speeds["tx2_max_n"] == pytest.approx(0.3 * 666e9 / 2)
    relative = {name: speed / speeds["tx2_max_n"] for name, speed in speeds.items()}
    assert relative == pytest.approx({"tx2_max_n": 1, "tx2_max_q": 0.6, "tx2_max_p_all": 0.7, "tx2_max_p_arm": 0.86})


def test_a_raspberry_pi_takes_four_minutes_where_a_tx2_takes_eight_seconds():
    """500 samples of a ResNet-18 (555e6 MACs each forward, 3 times that to train), the spec's worked example."""
    fleet = ready(RaspberryJetson(noise=0))
    work = Work(macs=3 * 555e6 * 500, download_bytes=0, upload_bytes=0)
    assert fleet.timing(client_of(fleet, "raspberry_pi_4"), work, 0).compute_s == pytest.approx(238, abs=1)
    assert fleet.timing(client_of(fleet, "jetson_tx2"), work, 0).compute_s == pytest.approx(8.3, abs=0.1)


def test_phones_have_the_published_marginals():
    fleet = ready(Phones(), 40_000)
    # What 300e6 MACs, one inference of the reference network, and 1 Mbit of download take.
    ms = 1e3 * 300e6 / fleet.devices.column("macs_per_s")
    mbit_per_s = fleet.devices.column("down_bits_per_s") / 1e6
    assert np.median(ms) == pytest.approx(60, rel=0.02)
    assert (ms.min(), ms.max()) == pytest.approx((15, 200))
    assert np.median(mbit_per_s) == pytest.approx(6.1, rel=0.03)
    assert (mbit_per_s < 3).mean() == pytest.approx(0.26, abs=0.01)
    assert np.array_equal(fleet.devices.column("down_bits_per_s"), fleet.devices.column("up_bits_per_s"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"share": 0}, "share of device class 'a' is 0: give a number above 0"),
        ({"macs_per_s": -1.0}, "macs_per_s .* above 0"),
        ({"up_bits_per_s": float("inf")}, "up_bits_per_s"),
        ({"noise": -0.1}, "noise of device class 'a' is -0.1: give a number, at least 0"),
        ({"latency_s": float("nan")}, "latency_s"),
        ({"speed_limits": (2.0, 1.0)}, "the lower one first"),
    ],
)
def test_impossible_devices_are_refused(change, words):
    settings = {"name": "a", "share": 1, "macs_per_s": 1e9, "down_bits_per_s": 1e6, "up_bits_per_s": 1e6}
    with pytest.raises(ConfigError, match=words):
        DeviceClass(**{**settings, **change})


def test_a_fleet_without_devices_is_refused():
    with pytest.raises(ConfigError, match="no device classes"):
        DeviceFleet([])


@pytest.mark.parametrize(
    ("shares", "total"), [([0.5, 0.3], "0.8"), ([0.9], "0.9"), ([0.5, 0.6], "1.1"), ([1, 0.5], "1.5")]
)
def test_fractions_that_do_not_sum_to_one_are_refused_with_their_sum(shares, total):
    with pytest.raises(ConfigError, match=rf"sum to {total} \(d0 {shares[0]}.*fractions that sum to 1, or counts"):
        DeviceFleet([DeviceClass(f"d{k}", share, 1e9, 1e6, 1e6) for k, share in enumerate(shares)])


@pytest.mark.parametrize("shares", [[7, 7, 6], [1], [1, 1, 1], [0.1] * 10, [0.7, 0.2, 0.1], [1.5, 0.5], [25, 50, 25]])
def test_counts_and_fractions_of_one_are_shares(shares):
    DeviceFleet([DeviceClass(f"d{k}", share, 1e9, 1e6, 1e6) for k, share in enumerate(shares)])


def test_a_submodel_fits_a_device_that_holds_weights_gradients_and_momentum():
    """1,000 parameters and 100 float buffers: 4,400 bytes of state, 4,000 of gradients, 4,000 of momentum."""
    cost = Cost(parameters=1000, macs=1, num_bytes=4400)
    assert training_bytes(cost) == 12_400
    for memory_bytes, fits in ((12_400, True), (12_399, False), (None, True)):
        fleet = ready(DeviceFleet([DeviceClass("a", 1, 1e9, 1e6, 1e6, memory_bytes=memory_bytes)]), 1)
        assert fleet.fits(0, cost) is fits


def test_energy_is_priced_by_mac_and_byte():
    entry = DeviceClass("a", 1, 1e9, 1e6, 1e6, joules_per_mac=2e-9, joules_per_byte_down=1e-6, joules_per_byte_up=3e-6)
    assert ready(DeviceFleet([entry]), 1).energy_j(0, Work(1e9, 10**6, 2 * 10**6)) == pytest.approx(2 + 1 + 6)
    assert ready(High(), 1).energy_j(0, Work(1e9, 10**6, 10**6)) == 0


def test_a_board_that_trains_for_a_second_takes_its_watts():
    fleet = ready(RaspberryJetson(noise=0))
    for device, watts in (("raspberry_pi_4", 6.4), ("jetson_nano", 10), ("jetson_tx2", 15)):
        client = client_of(fleet, device)
        work = Work(macs=1e12, download_bytes=0, upload_bytes=0)
        assert fleet.energy_j(client, work) / fleet.timing(client, work, 0).compute_s == pytest.approx(watts)


def test_small_devices_hold_a_quarter_of_the_parameters_and_medium_ones_half():
    fleet = ready(AdaptiveFLBoards(full_parameters=10_000), 10)
    counts = {row.device: row.num_clients for row in fleet.describe()}
    assert counts == {"raspberry_pi_4": 4, "jetson_nano": 3, "jetson_agx_xavier": 3}
    for device, fraction in (("raspberry_pi_4", 0.25), ("jetson_nano", 0.5), ("jetson_agx_xavier", 1.0)):
        client = client_of(fleet, device)
        held = round(10_000 * fraction)
        assert fleet.fits(client, Cost(held, 1, 4 * held))
        assert not fleet.fits(client, Cost(int(1.1 * held), 1, 4 * int(1.1 * held)))


def test_links_follow_density_in_fedgmr():
    rows = ready(FedGMRLinks("medium"), 100).describe()
    assert [row.num_clients for row in rows] == [10, 10, 20, 30, 30]
    assert [row.down_bits_per_s / 1e6 for row in rows] == pytest.approx([20, 10, 4, 2, 1])
    assert [row.up_bits_per_s / 1e6 for row in rows] == pytest.approx([5, 2.5, 1, 0.5, 0.25])
    with pytest.raises(ConfigError, match="mix='none'"):
        FedGMRLinks("none")
    with pytest.raises(ConfigError, match="full_parameters=0"):
        AdaptiveFLBoards(full_parameters=0)
