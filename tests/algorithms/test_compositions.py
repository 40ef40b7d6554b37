"""Published methods on a toy federation: what each composition promises, end to end."""

import io
import math

import lightning.pytorch as pl
import pytest
import torch
from toy import SIZES, Regressor, ToyData, ToyFleet

from fedlight.algorithms import UPFL, FedAvg, FedLight, FedMP, FedPace, HeteroFL, RandomRatio, SpeedRatio, SynFL
from fedlight.core import Algorithm, Server
from fedlight.core.slots import Scores
from fedlight.core.types import Timing
from fedlight.errors import ConfigError
from fedlight.fleet import DeviceClass, DeviceFleet
from fedlight.parts import (
    AbsoluteChange,
    ClientStatistic,
    ConstantPace,
    Fixed,
    LeanLoop,
    Magnitude,
    ResidualRecovery,
    RunningStatistics,
    SampleCount,
    Uniform,
    Weights,
)

ALL = [FedAvg, HeteroFL, SpeedRatio, FedLight, SynFL, UPFL, FedMP, RandomRatio, FedPace]


class UnequalFleet(ToyFleet):
    """Times from the work: client n computes (n + 1) times slower than client 0, links are alike."""

    def timing(self, client, work, round_idx):
        return Timing(work.download_bytes / 1e4, (client + 1) * work.macs / 1e3, work.upload_bytes / 1e4)


def make(kind, **options):
    if kind is HeteroFL:  # the toy has no class labels to mask
        options.setdefault("local", LeanLoop())
    return kind(**options)


def fit(algorithm, rounds, fleet=None, hidden=32, data=None, module=None):
    """Run some rounds and return the server, with the records of all rounds in ``server.records``."""

    class Records(pl.Callback):
        def on_train_batch_end(self, trainer, server, *_):
            server.records.append(server.last_round)

    torch.manual_seed(0)
    server = Server(module or Regressor(hidden), algorithm, fleet or UnequalFleet(), seed=3)
    server.records = []
    pl.Trainer(
        max_epochs=rounds,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        use_distributed_sampler=False,
        callbacks=[Records()],
    ).fit(server, datamodule=data or ToyData())
    return server


def weights_of(server):
    return {name: value.clone() for name, value in server.client.state_dict().items()}


@pytest.mark.parametrize("kind", ALL)
def test_a_method_learns(kind):
    server = fit(make(kind), rounds=15)
    losses = [
        sum(r.metrics["train/loss"] * r.num_examples for r in record.reports) / sum(SIZES) for record in server.records
    ]
    assert sum(losses[-3:]) < 0.6 * sum(losses[:3])


def moving():
    return FedLight(criterion="abs_change")


@pytest.mark.parametrize("kind", [*ALL, moving])
def test_what_a_method_remembers_survives_a_checkpoint(kind):
    """Saved as tensors and plain values, read by ``weights_only``, and equal in all that it decides next."""
    first = fit(make(kind), rounds=4)
    file = io.BytesIO()
    torch.save({slot: part.state_dict() for slot, part in first.algorithm.slots().items()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    second = make(kind)
    for slot, part in second.slots().items():
        part.load_state_dict(saved[slot])
    state = first.round_state()
    for algorithm in (first.algorithm, second):
        algorithm.chosen = algorithm.ratio.choose(state, range(4))
        algorithm.weights = algorithm.contribution.weights(state, range(4))
        algorithm.kept = [
            algorithm.extraction.extract(
                state, client, algorithm.chosen[client], Scores.of(algorithm.importance, state, client)
            ).keep.tolist()
            for client in range(4)
        ]
    assert first.algorithm.chosen == second.chosen
    assert first.algorithm.weights == second.weights
    assert first.algorithm.kept == second.kept


def test_all_methods_train_the_same_clients():
    cohorts = [
        [
            sorted(report.client for report in record.reports)
            for record in fit(make(kind, clients_per_round=2), 4).records
        ]
        for kind in ALL
    ]
    assert all(cohort == cohorts[0] for cohort in cohorts)
    assert len({tuple(clients) for clients in cohorts[0]}) > 1


def test_nothing_removed_is_fedavg():
    """HeteroFL of one level and FedAvg with residual recovery, both weighted by examples, give FedAvg's weights."""
    expected = weights_of(fit(FedAvg(), rounds=3))
    one_level = make(HeteroFL, levels=[0.0], norm=RunningStatistics())
    one_level.contribution = SampleCount()
    recovery = FedAvg()
    recovery.aggregation = ResidualRecovery()
    for algorithm in (one_level, recovery):
        for name, value in weights_of(fit(algorithm, rounds=3)).items():
            torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=1e-7)


def test_heterofl_gives_leading_units_by_level():
    server = fit(make(HeteroFL, levels=[0.0, 0.5, 0.75, 0.875]), rounds=2)
    kept = {c: server.algorithm.extraction.last(server.plan, c).keep.tolist() for c in range(4)}
    assert sorted(sum(keep) for keep in kept.values()) == [4, 8, 16, 32]
    for keep in kept.values():
        assert keep == sorted(keep, reverse=True)
    first, second = ({r.client: r.ratio for r in record.reports} for record in server.records)
    assert first == second
    assert isinstance(server.algorithm.contribution, Uniform)


def test_speedratio_shortens_the_round_and_the_waiting():
    full, aligned = fit(FedAvg(), rounds=6).records[-1], fit(SpeedRatio(min_ratio=0.0), rounds=6).records[-1]
    assert aligned.end_s - aligned.start_s < 0.6 * (full.end_s - full.start_s)
    assert aligned.waiting_share < full.waiting_share
    # T* is the time of the fastest client with the full model; nobody takes longer than a tenth more (hysteresis)
    target_s = min(report.timing.total_s for report in full.reports)
    assert max(report.timing.total_s for report in aligned.reports) <= 1.1 * target_s * (1 + 1e-6)
    ratios = {report.client: report.ratio for report in aligned.reports}
    assert ratios[0] == 0.0
    assert min(ratios[client] for client in (1, 2, 3)) > 0.3


def test_fedlight_asks_for_what_its_criterion_needs():
    server = fit(FedLight(criterion="taylor", prune_every=2, prune_until=4, divisor="clients"), rounds=6)
    assert server.algorithm.importance.statistics == {"taylor"}
    assert server.algorithm.importance.state_dict()["seen"].any()
    assert server.algorithm.extraction.schedule.exchange == "cosine"
    record = server.records[-1]
    assert all(-1.0 <= report.contribution <= 1.0 for report in record.reports)
    assert sum(report.weight for report in record.reports) == pytest.approx(1.0)
    assert {tag for tag in record.metrics if tag.startswith("bandit/plays/")} == {
        f"bandit/plays/{ratio:g}" for ratio in (0, 0.2, 0.4, 0.6, 0.8)
    }
    with pytest.raises(ConfigError, match="divisor='all'"):
        FedLight(divisor="all")


def test_a_client_of_nan_is_left_out_and_the_run_goes_on():
    """Client 2's updates are NaN in every round; its bandit still tries every arm, and everyone else learns."""
    data = ToyData()
    data.clients[2].x[0, 0] = torch.nan
    server = fit(FedLight(criterion="taylor", bonus_scale=0.25), rounds=15, data=data)
    assert len(server.records) == 15
    assert all(torch.isfinite(value).all() for value in server.client.state_dict().values())
    for record in server.records:
        assert [report.client for report in record.reports if not report.accepted] == [2]
        scalars = record.scalars()
        assert scalars["train/rejected_clients"] == 1
        assert scalars["train/num_clients"] == 3
        assert all(math.isfinite(value) for value in scalars.values())
    parts = server.algorithm.slots()
    assert 2 not in parts["contribution"].state_dict()["clients"].tolist()
    bandits = parts["ratio"]
    arms = bandits.bandit.statistics(bandits.memory(2), 15)
    assert all(arm.plays > 0 and arm.rewards == 0 for arm in arms)
    losses = [record.scalars()["train/loss"] for record in server.records]
    assert sum(losses[-3:]) < 0.6 * sum(losses[:3])


def test_a_client_that_logs_nothing_still_feeds_its_bandit():
    class Silent(Regressor):
        def log(self, *arguments, **named):
            raise AssertionError("nothing is logged here")

        def training_step(self, batch, batch_idx):
            return torch.nn.functional.mse_loss(self(batch[0]), batch[1])

    server = fit(FedLight(value="local_loss"), rounds=3, module=Silent(32))
    assert server.records[-1].scalars()["train/loss"] > 0
    assert server.algorithm.ratio.state_dict()["clients"].sort().values.tolist() == [0, 1, 2, 3]


def test_fedlight_follows_the_change_since_the_start():
    """Every criterion is a part of its own, and a misspelt one is refused."""
    server = fit(moving(), rounds=3)
    change = server.algorithm.importance
    assert isinstance(change, AbsoluteChange)
    torch.manual_seed(0)
    start = Regressor(32).state_dict()
    for name, value in change.state_dict()["reference"].items():
        assert torch.equal(value, start[name])
    assert FedLight(criterion="recent_change", prune_every=3).importance.every == 3
    assert isinstance(FedLight(criterion="abs_grad").importance, ClientStatistic)
    with pytest.raises(ConfigError, match="criterion='size' is unknown: use one of magnitude"):
        FedLight(criterion="size")


def test_any_parts_compose():
    algorithm = FedLight(support="full", update_norm=0.1, scope="global")
    assert isinstance(algorithm, Algorithm)
    assert fit(algorithm, rounds=3).records[-1].reports


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_weight_masks_train_end_to_end(scope):
    """Entries that a client doesn't hold stay zero there, and keep their global value when nobody holds them."""
    algorithm = FedAvg()
    algorithm.ratio, algorithm.importance, algorithm.extraction = Fixed(0.75), Magnitude(), Weights(scope)
    torch.manual_seed(0)
    start = {name: value.clone() for name, value in Regressor(32).state_dict().items()}
    server = fit(algorithm, rounds=1)
    coverage = server.algorithm.extraction.last(server.plan, 0)
    for name, mask in coverage.masks.items():
        now = server.client.state_dict()[name]
        assert torch.equal(now[~mask], start[name][~mask])
        assert not torch.equal(now[mask], start[name][mask])
    assert server.records[0].reports[0].work.upload_bytes < server.plan.cost(server.plan.full_keep()).num_bytes


def test_client_statistics_reach_the_scores():
    algorithm = SpeedRatio(importance=ClientStatistic("abs_grad"), min_ratio=0.0)
    server = fit(algorithm, rounds=4)
    scores = algorithm.importance.scores(server.round_state(), 0)
    assert bool(algorithm.importance.state_dict()["seen"].all())
    assert not torch.equal(scores, Magnitude().scores(server.round_state(), 0))


def test_a_known_cost_model_aligns_from_the_first_round_on():
    """No noise, no latency: what is learned from one round is what the fleet knew before it."""
    speeds = {"fast": 1e4, "slow": 2e3}
    fleet = DeviceFleet([DeviceClass(name, 1, speed, 1e6, 1e6) for name, speed in speeds.items()])
    pace = {"pace": ConstantPace(0.3), "round_to": 1}
    known, learned = (
        [{report.client: report.ratio for report in record.reports} for record in fit(algorithm, 3, fleet).records]
        for algorithm in (FedPace(cost_model="known", **pace), FedPace(cost_model="learned", start_ratio=0.9, **pace))
    )
    assert set(learned[0].values()) == {0.9}
    assert known[0] == known[1] == learned[1] == learned[2]
    assert min(known[0].values()) == 0.3 < max(known[0].values())


def test_without_alignment_a_round_waits_for_the_slowest():
    records = fit(FedPace(pace=ConstantPace(0.25), aligned=False), 2).records
    assert {report.ratio for record in records for report in record.reports} == {0.25}
