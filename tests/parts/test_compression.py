"""What comes back is what went in: exactly by way of the memory, on average, or within a step; and bytes by hand."""

import math

import pytest
import torch
from clients import Net, classes, make_task
from hypothesis import given
from hypothesis import strategies as st
from plain_submodels import run as run_toy

from fedlight.algorithms import FedAvg, FedLightMask, FlexCom, RandomRatio
from fedlight.core.client import run_client
from fedlight.core.types import ClientTask, Timing, Update, Work
from fedlight.errors import ConfigError
from fedlight.parts import QSGD, LeanLoop, NoCompression, Quantized, TimeMatchedLevel, TopK
from fedlight.parts.compression.topk import num_sent
from fedlight.submodels.structure import Cost

SHAPES = {"a": (3, 5), "b": (4,), "c": (2, 2, 2)}  # 27 entries


def random_update(seed=0, buffers=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    delta = {name: scale * torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    return Update(3, 10, 1, delta, {"stat": torch.ones(buffers)} if buffers else {}, {}, {}, 0)


def task(level=1.0, memory=None, masks=None, round_idx=0):
    parts = {"lr_factor": 1.0, "statistics": frozenset(), "local": None, "norm": None, "compression": None}
    return ClientTask(3, round_idx, 7, {}, masks, **parts, level=level, memory=memory or {})


def flat(state):
    return torch.cat([state[name].flatten() for name in SHAPES])


# Top-k with memory ----------------------------------------------------------------------------------------------------


def test_topk_by_hand():
    delta = {"a": torch.tensor([[3.0, -1.0], [0.5, 0.0]]), "b": torch.tensor([2.0, -4.0])}
    memory = {"a": torch.tensor([[0.0, -1.5], [0.0, 0.0]]), "b": torch.tensor([0.0, 0.0])}
    sent = TopK().encode(Update(3, 1, 1, delta, {}, {}, {}, 0), task(0.5, memory))
    assert sent.delta["a"].tolist() == [[3.0, -2.5], [0.0, 0.0]]
    assert sent.delta["b"].tolist() == [0.0, -4.0]
    assert sent.memory["a"].tolist() == [[0.0, 0.0], [0.5, 0.0]]
    assert sent.memory["b"].tolist() == [2.0, 0.0]
    assert sent.upload_bytes == 13  # bitmap: 6 bits and 3 values of 32; positions would take 3 bits each


@given(seed=st.integers(0, 99), level=st.floats(0.01, 1.0), decay=st.sampled_from([0.3, 1.0]), masked=st.booleans())
def test_sent_and_kept_sum_to_the_update_exactly(seed, level, decay, masked):
    masks = {"a": torch.rand(3, 5, generator=torch.Generator().manual_seed(seed)) < 0.5} if masked else None
    update, memory = random_update(seed), random_update(seed + 1000).delta
    for state in (update.delta, memory):
        if masks:
            state["a"].masked_fill_(~masks["a"], 0)
    size = 27 if masks is None else 12 + int(masks["a"].sum())
    sent = TopK(decay=decay).encode(update, task(level, memory, masks))
    wanted = {name: update.delta[name] + decay * memory[name] for name in SHAPES}
    for name in SHAPES:
        assert torch.equal(sent.delta[name] + sent.memory[name], wanted[name])
        assert not (sent.delta[name] * sent.memory[name]).any()
    assert int((flat(sent.delta) != 0).sum()) == num_sent(size, level)
    assert flat(sent.memory).abs().max() <= flat(sent.delta)[flat(sent.delta) != 0].abs().min()


def test_over_rounds_nothing_is_lost():
    """What was ever sent and what is still kept sum to all updates."""
    compression, memory, sent, wanted = TopK(), {}, torch.zeros(27), torch.zeros(27)
    for round_idx in range(12):
        update = random_update(round_idx)
        back = compression.encode(update, task(0.2, memory))
        memory, sent, wanted = back.memory, sent + flat(back.delta), wanted + flat(update.delta)
    torch.testing.assert_close(sent + flat(memory), wanted, rtol=0, atol=1e-5)


def test_all_of_an_update_is_the_update_without_memory():
    update = random_update()
    back = TopK().encode(update, task(1.0))
    assert all(torch.equal(back.delta[name], update.delta[name]) for name in SHAPES)
    assert back.memory == {}
    flushed = TopK().encode(update, task(1.0, random_update(1).delta))
    assert not flat(flushed.memory).any()


def test_without_memory_the_rest_is_lost():
    assert TopK(decay=0.0).encode(random_update(), task(0.1)).memory == {}


def test_buffers_are_sent_whole_and_leave_no_memory():
    back = TopK().encode(random_update(buffers=6), task(0.1))
    assert back.buffers["stat"].tolist() == [1.0] * 6
    assert "stat" not in back.memory
    assert back.upload_bytes == math.ceil(3 * (5 + 32) / 8) + 24  # 3 of 27 by position, 5 bits each


def test_counts_forgive_the_last_bits_of_a_level():
    assert [num_sent(10, level) for level in (0.1, 0.1 + 0.2, 0.31, 1e-9, 1.0)] == [1, 3, 4, 1, 10]
    assert num_sent(0, 0.5) == 0


# Quantisation ---------------------------------------------------------------------------------------------------------


def test_affine_by_hand():
    """From -1 to 2 in 2 bits: steps of 1, zero point 1."""
    delta = {"a": torch.tensor([-1.0, 2.0, 0.4, 0.6, 0.0])}
    back = Quantized(bits=2).encode(Update(3, 1, 1, delta, {}, {}, {}, 0), task())
    assert back.delta["a"].tolist() == [-1.0, 2.0, 0.0, 1.0, 0.0]
    assert back.upload_bytes == 2 + 8


@given(seed=st.integers(0, 99), bits=st.integers(2, 16), bucket=st.integers(1, 40), scale=st.sampled_from([1e-6, 1.0]))
def test_affine_errs_by_a_step_at_most_and_keeps_zero(seed, bits, bucket, scale):
    update = random_update(seed, scale=scale)
    update.delta["b"].zero_()
    back = Quantized(bits, bucket).encode(update, task())
    assert not back.delta["b"].any()
    for wanted, read in zip(flat(update.delta).split(bucket), flat(back.delta).split(bucket), strict=True):
        step = (wanted.max().clamp(min=0) - wanted.min().clamp(max=0)) / (2**bits - 1)
        assert (wanted - read).abs().max() <= step * (1 + 1e-3) + 1e-12


@pytest.mark.parametrize("norm", ["l2", "max"])
def test_qsgd_is_right_on_average(norm):
    """Mean of 4000 draws: within 5 standard errors of the update, whose variance stays below the paper's bound."""
    compression, update = QSGD(bits=3, bucket_size=9, norm=norm), random_update()
    draws = torch.stack([flat(compression.encode(update, task(round_idx=n)).delta) for n in range(4000)]).double()
    wanted = flat(update.delta).double()
    error = (draws.mean(0) - wanted).abs()
    assert (error <= 5 * draws.std(0) / 4000**0.5 + 1e-6).all()
    if norm == "l2":
        variance, length = ((draws - wanted) ** 2).mean(0).split(9), wanted.split(9)
        for var, vector in zip(variance, length, strict=True):
            assert var.sum() <= 1.05 * min(9 / 3**2, 9**0.5 / 3) * vector.square().sum()


def test_qsgd_draws_by_round_and_client():
    update = random_update()
    one, again, other = (QSGD(bits=2).encode(update, task(round_idx=n)).delta for n in (1, 1, 2))
    assert torch.equal(flat(one), flat(again))
    assert not torch.equal(flat(one), flat(other))


def test_qsgd_keeps_levels_that_are_exact():
    delta = {"a": torch.tensor([3.0, -1.0, 0.0, 2.0])}
    back = QSGD(bits=3, norm="max").encode(Update(3, 1, 1, delta, {}, {}, {}, 0), task())
    assert back.delta["a"].tolist() == [3.0, -1.0, 0.0, 2.0]
    assert back.upload_bytes == 2 + 4


@pytest.mark.parametrize("compression", [TopK(0.5), Quantized(), QSGD()])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_never_hidden(compression, value):
    update = random_update()
    update.delta["a"][0, 0] = value
    assert not compression.encode(update, task(0.5)).is_finite()


# Prices ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [NoCompression(), TopK(0.07), TopK(0.6), TopK(1.0), Quantized(), QSGD(4)])
def test_the_price_is_what_is_sent(compression):
    module = Net()
    level = compression.levels(None, [3], {3: 0.0}, {3: 1.0})[3]
    update = run_client(make_task(module, LeanLoop(), compression=compression, level=level), module, classes())
    parameters = sum(value.numel() for value in module.parameters())
    cost = Cost(parameters=parameters, macs=1, num_bytes=4 * parameters + 48)  # two float buffers of six
    assert update.upload_bytes == compression.upload_bytes(cost, level)
    assert compression.download_bytes(cost) == cost.num_bytes


def test_levels_match_times(make_state, make_report):
    """Sending all takes 1, 4 and 4 s, computing 1, 1 and 9 s: the second has ¼ of the bytes' time, the third never."""
    compression = TopK(TimeMatchedLevel(min_level=0.02))

    def price(client, ratio, share=1.0, level=1.0):
        return Work(100.0 * share, 0, compression.upload_bytes(Cost(10_000, 1, 40_000), level))

    state, cohort = make_state(price=price), [0, 1, 2]
    ratios, shares = dict.fromkeys(cohort, 0.0), dict.fromkeys(cohort, 1.0)
    assert set(compression.levels(state, cohort, ratios, shares).values()) == {1.0}  # no time was seen yet
    seconds = ((1.0, 1.0), (1.0, 4.0), (9.0, 4.0))
    compression.observe(
        state,
        [
            make_report(n, work=price(n, 0.0, level=level), timing=Timing(0.0, compute_s, upload_s * part))
            for n, (compute_s, upload_s) in enumerate(seconds)
            for level, part in ((1.0, 1.0), (0.1, price(n, 0.0, level=0.1).upload_bytes / 40_000))
        ],
    )
    levels = compression.levels(state, cohort, ratios, shares)
    assert levels[0] == 1.0
    assert levels[2] == 0.02
    # A quarter of 40,000 bytes, by bitmap: 10,000 bits and 32 for each of k.
    assert num_sent(10_000, levels[1]) == pytest.approx((8 * 10_000 - 10_000) / 32, abs=1)
    other = TopK(TimeMatchedLevel(min_level=0.02))
    other.load_state_dict(compression.state_dict())
    assert other.levels(state, cohort, ratios, shares) == levels


def test_the_mean_level_is_logged(make_state, make_report):
    compression = TopK(0.5)
    compression.observe(make_state(), [make_report(0, level=0.5), make_report(1, level=0.25)])
    assert compression.metrics() == {"compression/level": 0.375}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TopK(0.0), "level=0"),
        (lambda: TopK(1.1), "level=1.1"),
        (lambda: TopK(decay=-0.1), "decay=-0.1"),
        (lambda: TimeMatchedLevel(0.0), "min_level=0"),
        (lambda: TimeMatchedLevel(target=2.0), "target=2"),
        (lambda: Quantized(1), "bits=1 of Quantized"),
        (lambda: QSGD(17), "bits=17 of QSGD"),
        (lambda: QSGD(bucket_size=0), "bucket_size=0"),
        (lambda: QSGD(norm="l1"), "norm='l1'"),
        (lambda: FlexCom(min_level=-1.0), "min_level=-1"),
    ],
)
def test_constants_out_of_range_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_flexcom_that_sends_all_is_fedavg_and_remembers_nothing():
    whole, plain = run_toy(FlexCom(min_level=1.0), 3), run_toy(FedAvg(), 3)
    for name, value in plain.client.state_dict().items():
        assert torch.equal(whole.client.state_dict()[name], value)
    assert len(whole.memory) == 0
    assert whole.clock.now_s == plain.clock.now_s


@pytest.mark.parametrize("make", [lambda: RandomRatio(ratios=[0.0, 0.3, 0.6]), lambda: FedLightMask(ratios=[0.4])])
def test_memory_follows_submodels(make):
    """Stored in full shape, whatever shape it comes back in."""
    algorithm = make()
    algorithm.compression = TopK(0.1)
    server = run_toy(algorithm, 4)
    state = server.client.state_dict()
    stored = server.memory.state_dict()["clients"]
    assert sorted(stored) == [0, 1, 2, 3]
    for memory in stored.values():
        assert {name: value.shape for name, value in memory.items()} == {n: v.shape for n, v in state.items()}
        assert any(value.any() for value in memory.values())
    dense = run_toy(make(), 4)
    sent = sum(report.upload_bytes for told in server.told for report in told.values())
    assert sent < 0.3 * sum(report.upload_bytes for told in dense.told for report in told.values())
