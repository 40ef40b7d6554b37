"""Fleets and availability from files: what they say, and what is refused."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlight.core.fleet import Departure
from fedlight.core.types import Work
from fedlight.errors import ConfigError, DataError
from fedlight.fleet import (
    ChangingFleet,
    Constant,
    DrawnFleet,
    Homogeneous,
    LogNormal,
    Pareto,
    TraceAvailability,
    TraceFleet,
    Uniform,
    Zipf,
)

WORK = Work(macs=9e9, download_bytes=1_000_000, upload_bytes=500_000)


@pytest.fixture
def write(tmp_path):
    def write(content, name="trace.csv"):
        path = tmp_path / name
        if name.endswith(".pkl"):
            path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    return write


def fleet_of(path, num_clients=2, seed=0, **options):
    fleet = TraceFleet(path, noise=0.0, **options)
    fleet.setup(num_clients, seed)
    return fleet


def followed(path, num_clients=1, seed=0, **options):
    fleet = ChangingFleet(Homogeneous(), availability=TraceAvailability(path, **options))
    fleet.setup(num_clients, seed)
    return fleet


# Devices --------------------------------------------------------------------------------------------------------------


def test_a_csv_file_says_what_devices_can_do(write):
    path = write(
        "device,macs_per_s,down_bits_per_s,up_bits_per_s,latency_s,memory_bytes,joules_per_mac\n"
        "pi,3e9,8e6,4e6,0.5,1000,2e-9\n"
        "tx2, 9e10,16e6,8e6,0,2000,1e-9\n\n"
    )
    fleet = fleet_of(path, shuffle=False)
    assert [fleet.device(client) for client in (0, 1)] == ["pi", "tx2"]
    timing = fleet.expected_timing(0, WORK)
    assert (timing.download_s, timing.compute_s, timing.upload_s) == pytest.approx((1.5, 3.0, 1.5))
    assert fleet.energy_j(1, WORK) == pytest.approx(9.0)
    assert {row.device: row.memory_bytes for row in fleet.describe()} == {"pi": 1000, "tx2": 2000}


def test_milliseconds_of_inference_become_speed_by_the_network_that_was_timed(write):
    """FedScale: seconds of training = 3 · examples · ms / 1000; kbit/s both ways."""
    entries = {7: {"computation": 150.0, "communication": 8000.0}}
    by_csv = fleet_of(write("ms_per_example,kbps\n150,8000\n"), 1, reference_macs=2e8)
    by_json = fleet_of(write(entries, "trace.json"), 1, reference_macs=2e8)
    by_pickle = fleet_of(write(entries, "trace.pkl"), 1, reference_macs=2e8)
    examples = 40
    work = Work(macs=3 * 2e8 * examples, download_bytes=1_000_000, upload_bytes=2_000_000)
    for fleet in (by_csv, by_json, by_pickle):
        timing = fleet.expected_timing(0, work)
        assert timing.compute_s == pytest.approx(3 * examples * 150 / 1000)
        assert (timing.download_s, timing.upload_s) == pytest.approx((1.0, 2.0))
        assert fleet.device(0) == "traced"


@given(num_clients=st.integers(1, 30), seed=st.integers(0, 3))
@settings(max_examples=20, deadline=None)
def test_no_row_comes_twice_while_there_are_more(tmp_path_factory, num_clients, seed):
    path = tmp_path_factory.mktemp("traces") / "trace.csv"
    path.write_text("macs_per_s,kbps\n" + "".join(f"{k + 1},1\n" for k in range(7)))
    speeds = fleet_of(str(path), num_clients, seed).devices.column("macs_per_s")
    counts = np.bincount(speeds.astype(int), minlength=8)[1:]
    assert counts.max() - counts.min() <= 1
    again = fleet_of(str(path), num_clients, seed).devices.column("macs_per_s")
    assert (again == speeds).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("macs_per_s,kbps,colour\n1,1,1\n", "trace.csv: column 'colour' is unknown; columns are device, macs_per_s"),
        ("macs_per_s,kbps\n1,1\n2,x\n", "trace.csv, row 3, column kbps: 'x' is no finite number"),
        ("macs_per_s,kbps\n1,1\n2,nan\n", "row 3, column kbps: 'nan'"),
        ("macs_per_s,kbps\n1,1\n2\n", "row 3 has 1 values for 2 columns"),
        ("macs_per_s,kbps\n1,1\n0,1\n", "row 2 of its data, column macs_per_s: 0 is not above 0"),
        ("macs_per_s,kbps,latency_s\n1,1,-1\n", "column latency_s: -1 is not at least 0"),
        ("macs_per_s,kbps,kbps\n1,1,1\n", "column 'kbps' is there 2 times"),
        ("macs_per_s,ms_per_example,kbps\n1,1,1\n", "macs_per_s and ms_per_example say the same"),
        ("kbps\n1\n", "no column macs_per_s; give it, or ms_per_example"),
        ("macs_per_s,up_bits_per_s\n1,1\n", "no column down_bits_per_s; give it, or kbps"),
        ("macs_per_s,kbps\n", "holds no rows"),
        ("", "holds no rows"),
    ],
)
def test_device_files_that_cannot_be_are_refused(write, text, words):
    with pytest.raises(DataError, match=words):
        fleet_of(write(text))


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (
            {"3": {"computation": 1.0, "bandwidth": 1.0}},
            "a.json",
            "a.json, entry 3: key 'bandwidth' is unknown; keys are",
        ),
        ({"3": {"computation": 1.0}}, "a.json", "entry 3: there is no key communication; every client needs it"),
        ({"3": {"computation": 0, "communication": 1}}, "a.json", "entry 3, key computation: 0 is not above 0"),
        ({3: [1, 2]}, "a.pkl", "entry 3: is list, not a dictionary"),
        ([1], "a.pkl", "holds no dictionary of clients"),
        ("{", "a.json", "can't be read as JSON"),
        (b"nonsense", "a.pkl", "can't be read as a pickle"),
        ({1: np.float64(3)}, "a.pkl", "only plain containers and numbers are read"),
    ],
)
def test_fedscale_files_that_cannot_be_are_refused(write, content, name, words):
    with pytest.raises(DataError, match=words):
        fleet_of(write(content, name))


def test_a_pickle_runs_nothing(write, tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "sprung"), "w")

    with pytest.raises(DataError, match=r"asks for io\.open, and only plain containers"):
        fleet_of(write({1: Trap()}, "trap.pkl"))
    assert not (tmp_path / "sprung").exists()


def test_a_missing_file_and_impossible_options_are_refused(tmp_path):
    with pytest.raises(DataError, match="there is no trace file"):
        fleet_of(str(tmp_path / "none.csv"))
    for options in ({"reference_macs": 0.0}, {"noise": -1.0}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            TraceFleet("x.csv", **options)
    for options in ({"period_s": 0.0}, {"start_s": -1.0}, {"scale": 0.0}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            TraceAvailability("x.csv", **options)


# Availability ---------------------------------------------------------------------------------------------------------

FEDSCALE = {"active": [2, 10], "inactive": [5, 14], "finish_time": 20, "duration": 7, "model": "phone"}


@pytest.mark.parametrize("name", ["a.json", "a.pkl"])
def test_fedscales_intervals_by_hand(write, name):
    fleet = followed(write({"9": FEDSCALE}, name))
    for now_s, up in (
        (0, 0),
        (2, 1),
        (4.9, 1),
        (5, 0),
        (10, 1),
        (14, 0),
        (19, 0),
        (22, 1),
        (25, 0),
        (34, 0),
        (1011, 1),
    ):
        assert len(fleet.candidates(float(now_s))) == up, now_s
    assert fleet.next_up_s(0.0) == 2.0
    assert fleet.next_up_s(5.0) == 10.0
    assert fleet.next_up_s(14.0) == 22.0
    five_s = Work(macs=10e9, download_bytes=1_875_000, upload_bytes=1_875_000)  # 1.5 + 2 + 1.5 s
    fate = fleet.fate(Departure(0, 0, 11.0), five_s)
    assert (fate.lost_s, fate.cause) == (14.0, "left")


def test_traces_that_begin_inactive_or_end_active(write):
    """Inactive first: up from 0 on. Active last: up to the end, and on if the next round begins so."""
    path = write({"1": {"active": [10], "inactive": [5], "finish_time": 20}}, "a.json")
    fleet = followed(path)
    assert [len(fleet.candidates(float(t))) for t in (0, 4, 5, 9, 10, 19, 20, 24, 25)] == [1, 1, 0, 0, 1, 1, 1, 1, 0]
    assert fleet.fate(Departure(0, 0, 18.0), Work(10e9, 1_250_000, 1_250_000)).lost_s is None
    assert fleet.fate(Departure(0, 0, 18.0), Work(60e9, 0, 0)).lost_s == pytest.approx(25.0)


def test_a_trace_can_begin_in_the_middle_and_be_played_faster(write):
    path = write("trace,up_s,down_s\na,2,5\na,10,14\n")
    plain, moved = followed(path, period_s=20.0), followed(path, period_s=20.0, start_s=4.0, scale=0.5)
    for tick in range(200):
        now_s = tick * 0.25 + 0.1
        assert len(moved.candidates(now_s)) == len(plain.candidates(4.0 + now_s / 0.5)), now_s
    assert followed(path).next_up_s(14.0) == 16.0  # without a period it begins again at its last down_s, 14


intervals = st.lists(st.tuples(st.integers(0, 95), st.integers(1, 30)), min_size=0, max_size=6)


@given(
    traces=st.lists(intervals, min_size=1, max_size=4),
    questions=st.lists(st.floats(0, 1000) | st.integers(0, 1000).map(float), min_size=1, max_size=10),
)
@settings(max_examples=60, deadline=None)
def test_candidates_are_those_within_an_interval(tmp_path_factory, traces, questions):
    content = {}
    for number, spans in enumerate(traces):
        clean, last = [], -1
        for up, length in sorted(spans):
            if up > last:
                clean.append((up, min(up + length, 100)))
                last = clean[-1][1]
        content[str(number)] = {"active": [a for a, _ in clean], "inactive": [b for _, b in clean], "finish_time": 100}
    path = tmp_path_factory.mktemp("traces") / "a.json"
    path.write_text(json.dumps(content))
    fleet = followed(str(path), len(traces), shuffle=False)
    for now_s in questions:
        expected = [
            client
            for client in range(len(traces))
            if any(
                a <= now_s % 100 < b
                for a, b in zip(content[str(client)]["active"], content[str(client)]["inactive"], strict=True)
            )
        ]
        assert list(fleet.candidates(now_s)) == expected
        if not expected and any(one["active"] for one in content.values()):
            next_s = fleet.next_up_s(now_s)
            offsets = [(a - now_s % 100) % 100 or 100 for one in content.values() for a in one["active"]]
            assert next_s == pytest.approx(now_s + min(offsets))
            assert len(fleet.candidates(next_s))


def test_nobody_ever_comes_where_no_trace_has_an_interval(write):
    fleet = followed(write({"1": {"active": [], "inactive": [], "finish_time": 20}}, "a.json"), 3)
    assert not len(fleet.candidates(0.0))
    assert fleet.next_up_s(0.0) is None


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"active": [1], "inactive": [2]}, "entry 4: there is no key finish_time; every client needs it"),
        ({"active": [1], "inactive": [2], "finish_time": 0}, "key finish_time: 0 is not above 0"),
        ({"active": 1, "inactive": [2], "finish_time": 9}, "key active: is int, not a list"),
        ({"active": ["x"], "inactive": [2], "finish_time": 9}, "key active, place 0: 'x' is no finite number"),
        ({"active": [1, 2, 3], "inactive": [4], "finish_time": 9}, "3 times active and 1 inactive don't alternate"),
        ({"active": [1, 2], "inactive": [3, 4], "finish_time": 9}, "don't alternate in time"),
        ({"active": [1], "inactive": [3], "finish_time": 9, "city": 1}, "key 'city' is unknown"),
    ],
)
def test_availability_that_cannot_be_is_refused(write, entry, words):
    with pytest.raises(DataError, match=words):
        followed(write({"4": entry}, "a.json"))


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("trace,up_s\na,1\n", {}, "there is no column down_s; columns are trace, up_s, down_s"),
        ("trace,up_s,down_s\na,1,2\nb,4,3\n", {}, "row 2 of its data: up_s 4 is not below down_s 3: a client must"),
        ("trace,up_s,down_s\na,1,9\n", {"period_s": 8.0}, "row 1 of its data: down_s 9 is beyond period_s 8: raise"),
        ("trace,up_s,down_s\na,-1,5\n", {}, "row 1 of its data: up_s -1 is before the start of the trace: give sec"),
        ("trace,up_s,down_s,client\na,1,9,1\n", {}, "column 'client' is unknown"),
    ],
)
def test_availability_tables_that_cannot_be_are_refused(write, text, options, words):
    with pytest.raises(DataError, match=words):
        followed(write(text), **options)


def test_fedscales_traces_say_their_own_period(write):
    with pytest.raises(ConfigError, match=r"period_s=5.0: FedScale's traces say their finish_time"):
        followed(write({"9": FEDSCALE}, "a.json"), period_s=5.0)


# Distributions --------------------------------------------------------------------------------------------------------


def values(distribution, count=20_000):
    return distribution.draw(np.random.default_rng(1), count)


def test_distributions_have_their_closed_forms():
    assert set(values(Constant(3.0), 4)) == {3.0}
    uniform = values(Uniform(2.0, 6.0))
    assert (uniform.mean(), uniform.min() >= 2, uniform.max() <= 6) == (pytest.approx(4.0, rel=0.01), True, True)
    log_normal = values(LogNormal(5.0, 0.5))
    assert np.median(log_normal) == pytest.approx(5.0, rel=0.02)
    assert np.log(log_normal).std() == pytest.approx(0.5, rel=0.02)
    clipped = values(LogNormal(5.0, 2.0, low=1.0, high=10.0))
    assert (clipped.min(), clipped.max()) == (1.0, 10.0)
    pareto = values(Pareto(2.0, 3.0))
    assert pareto.min() >= 2
    assert pareto.mean() == pytest.approx(3.0, rel=0.03)  # 2 · 3 / 2
    assert (pareto > 4).mean() == pytest.approx(1 / 8, abs=0.01)
    assert values(Pareto(2.0, 0.5, high=9.0)).max() == 9.0
    assert sorted(values(Zipf(12.0), 4)) == pytest.approx([3, 4, 6, 12])
    assert sorted(values(Zipf(12.0, 2.0, low=1.0), 4)) == pytest.approx([1, 12 / 9, 3, 12])


def test_a_drawn_fleet_has_what_was_drawn():
    fleet = DrawnFleet(Zipf(8e9), Uniform(1e6, 2e6), memory_bytes=Constant(500.0), latency_s=0.5, noise=0.0)
    fleet.setup(4, 0)
    speeds = fleet.devices.column("macs_per_s")
    assert sorted(speeds) == pytest.approx([2e9, 8e9 / 3, 4e9, 8e9])
    assert (fleet.devices.column("up_bits_per_s") == fleet.devices.column("down_bits_per_s")).all()
    fastest = int(speeds.argmax())
    assert fleet.expected_timing(fastest, Work(16e9, 0, 0)).total_s == pytest.approx(0.5 + 2 + 0.5)
    row = fleet.describe()[0]
    assert (row.device, row.num_clients, row.memory_bytes) == ("drawn", 4, 500.0)
    apart = DrawnFleet(Zipf(8e9), Constant(1.0))
    apart.setup(4, 0)
    assert (apart.devices.column("macs_per_s") == speeds).all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Constant(0.0), "value=0.0 is not above 0"),
        (lambda: Uniform(3.0, 2.0), "low=3.0 is above high=2.0"),
        (lambda: LogNormal(-1.0, 1.0), "median=-1.0"),
        (lambda: LogNormal(1.0, -1.0), "sigma=-1.0"),
        (lambda: LogNormal(1.0, 1.0, 3.0, 2.0), "low=3.0 is above high=2.0"),
        (lambda: Pareto(1.0, 0.0), "shape=0.0"),
        (lambda: Pareto(2.0, 1.0, high=1.0), "high=1.0 is below minimum=2.0"),
        (lambda: Zipf(0.0), "largest=0.0"),
        (lambda: Zipf(1.0, low=2.0), "low=2.0 is above largest=1.0"),
        (lambda: DrawnFleet(Zipf(1.0), Zipf(1.0), noise=-1.0), "noise=-1.0"),
    ],
)
def test_impossible_distributions_are_refused(make, words):
    with pytest.raises(ConfigError, match=words):
        make()
