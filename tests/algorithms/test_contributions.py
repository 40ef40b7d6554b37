"""Every contribution in a whole run, and what one may drive: weights, rewards, selection, or nothing."""

import copy
import functools
import pickle
import subprocess
import sys

import contribution_runs
import lightning.pytorch as pl
import pytest
import torch
from contribution_runs import CONTRIBUTIONS, SHARED_OUT, algorithm_of, run, scores_of, weights_of
from toy import SIZES, Regressor, ToyData, ToyFleet

from fedlight.algorithms import CGSV, FedAvg
from fedlight.core import Server
from fedlight.errors import ConfigError
from fedlight.parts import (
    BanditPace,
    ByContribution,
    ByScore,
    CompositeStatistics,
    CosineGradient,
    CoverageMean,
    DiscountedUCB,
    GramLeaveOneOut,
    HeldOutAccuracy,
    Judge,
    LeaveOneOut,
    PerClient,
    Reputation,
    ResidualRecovery,
    Reward,
    RobustVolume,
    SampleCount,
    Scored,
    ShapleyExact,
    Shared,
    Unaligned,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Runs a contribution for all rounds, once; returns the server and the folder of its checkpoints."""

    @functools.cache
    def whole(name):
        folder = tmp_path_factory.mktemp(name)
        return run(algorithm_of(CONTRIBUTIONS[name]()), folder), folder

    return whole


@pytest.mark.parametrize("name", CONTRIBUTIONS)
@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_scores_a_run_and_resumes_bit_for_bit(name, finished, tmp_path):
    server, folder = finished(name)
    for scores in scores_of(server):
        assert all(score is not None and abs(score) < float("inf") for score in scores.values())
    assert set(server.contributions) == {client for scores in scores_of(server) for client in scores}
    again = run(algorithm_of(CONTRIBUTIONS[name]()), tmp_path, resume=folder / "epoch=1.ckpt")
    assert scores_of(again) == scores_of(server)[2:]
    assert weights_of(again) == weights_of(server)[2:]
    assert again.contributions == server.contributions
    for name_, value in server.client.state_dict().items():
        assert torch.equal(value, again.client.state_dict()[name_])
    part = server.algorithm.contribution
    for other in (copy.deepcopy(part), pickle.loads(pickle.dumps(part))):  # noqa: S301 - our own bytes
        assert type(other) is type(part)


def test_two_processes_equal_one(finished, tmp_path):
    """One pair of processes for several contributions: starting them is what costs."""
    command = [sys.executable, contribution_runs.__file__, str(tmp_path / "told.pt"), "--processes", "2"]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    shared = torch.load(tmp_path / "told.pt", weights_only=True)
    assert tuple(shared) == SHARED_OUT
    for name, told in shared.items():
        server, _ = finished(name)
        for mine, theirs in zip(scores_of(server), told["scores"], strict=True):
            assert theirs == pytest.approx(mine, rel=1e-5, abs=1e-6), name
        for key, value in server.client.state_dict().items():
            torch.testing.assert_close(told["weights"][key], value, rtol=0, atol=1e-6)


# Four switches ------------------------------------------------------------------------------------------------------


def final(algorithm, **options):
    return run(algorithm, client=Regressor, **options).client.state_dict()


def test_a_measure_alone_is_only_logged():
    """Weights, models and cohorts are those of FedAvg, whatever is measured."""
    plain = run(FedAvg(), client=Regressor)
    for measure in (GramLeaveOneOut(), LeaveOneOut(), Scored(CosineGradient()), Scored(Reputation(), SampleCount())):
        algorithm = FedAvg()
        algorithm.contribution = measure
        server = run(algorithm, client=Regressor)
        assert weights_of(server) == weights_of(plain)
        for name, value in plain.client.state_dict().items():
            assert torch.equal(value, server.client.state_dict()[name])
        assert all(None not in scores.values() for scores in scores_of(server))
    assert all(set(scores.values()) == {None} for scores in scores_of(plain))


def test_scores_may_drive_the_weights():
    """r ← .5 r + .5 s⁺ / Σ s⁺, from the share of examples."""
    algorithm = FedAvg()
    algorithm.contribution = Scored(GramLeaveOneOut(), ByScore("share", moving_average=0.5))
    server = run(algorithm, rounds=2, client=Regressor)
    first, weights = scores_of(server)[0], weights_of(server)[1]
    expected = {n: 0.5 * SIZES[n] / sum(SIZES) + 0.5 * score / sum(first.values()) for n, score in first.items()}
    assert weights == pytest.approx(expected)


def test_one_may_score_and_another_weigh():
    """Scores of one, weights of the other, each as it would be alone."""
    alone, both = FedAvg(), FedAvg()
    alone.contribution = CosineGradient()
    both.contribution = Scored(ShapleyExact(), CosineGradient())
    alone, both = (run(algorithm, client=Regressor) for algorithm in (alone, both))
    assert weights_of(both) == weights_of(alone)
    assert scores_of(both) != scores_of(alone)
    measured = FedAvg()
    measured.contribution = Scored(CosineGradient(), Reputation())
    assert scores_of(run(measured, client=Regressor))[0] == scores_of(alone)[0]


def test_scores_may_drive_a_bandits_reward():
    """Δvalue is the rise of the client's score, so a measure of the server's data feeds the bandit."""
    algorithm = FedAvg()
    algorithm.contribution = HeldOutAccuracy(Judge("val/loss"))
    algorithm.ratio = PerClient(DiscountedUCB([0.0, 0.5]), Reward("contribution", "gap"))
    server = run(algorithm, rounds=5, client=Regressor)
    memory = algorithm.ratio.memory(0)
    plays = algorithm.ratio.bandit.statistics(memory, 5)
    assert sum(arm.plays for arm in plays) > 3
    assert weights_of(server) == weights_of(run(FedAvg(), rounds=5, client=Regressor))


def test_scores_may_drive_the_selection():
    """At a low temperature those with the best last score train, once everybody has been tried."""
    algorithm = FedAvg(clients_per_round=2)
    algorithm.contribution = LeaveOneOut()
    algorithm.selection = ByContribution(temperature=1e-6, epsilon=0.0)
    server = run(algorithm, rounds=6, client=Regressor)
    last, num_by_score = {}, 0
    for scores in scores_of(server):
        if len(last) == 4:
            assert set(scores) == set(sorted(last, key=last.get)[-2:])
            num_by_score += 1
        last.update(scores)
    assert num_by_score >= 2


@pytest.mark.parametrize(
    "ratio",
    [
        lambda reward: PerClient(DiscountedUCB(), reward),
        lambda reward: Shared(DiscountedUCB(), reward),
        lambda reward: Unaligned(BanditPace(reward=reward)),
    ],
    ids=["PerClient", "Shared", "BanditPace"],
)
def test_scores_that_nobody_gives_drive_nothing_and_are_refused_at_start(ratio):
    algorithm = FedAvg()
    algorithm.ratio = ratio(Reward("contribution", "one"))
    with pytest.raises(ConfigError, match=r"ratio: value='contribution' of Reward: .* scores no client"):
        run(algorithm, rounds=1, client=Regressor)
    algorithm.contribution = CosineGradient()
    assert run(algorithm, rounds=1, client=Regressor).records


def test_weighing_by_scores_that_nobody_gives_is_refused_at_start():
    algorithm = FedAvg()
    algorithm.contribution = ByScore()
    with pytest.raises(ConfigError, match="contribution: ByScore weighs by the scores of another"):
        run(algorithm, rounds=1, client=Regressor)


def test_a_selection_by_scores_that_nobody_gives_is_refused_at_start():
    with pytest.raises(ConfigError, match="selection: ByContribution draws by scores, and SampleCount gives none"):
        run(FedAvg(selection=ByContribution()), rounds=1, client=Regressor)


def test_who_is_removed_is_left_out_of_everything():
    algorithm = FedAvg()
    algorithm.contribution = Reputation(threshold=0.9, patience=0, moving_average=0.5)
    server = run(algorithm, rounds=8, client=Regressor)
    record = server.records[-1]
    removed = [report.client for report in record.reports if report.weight == 0]
    assert 0 < len(removed) < 4
    assert record.metrics["contribution/removed_clients"] == len(removed)
    assert record.scalars()["train/num_clients"] == 4 - len(removed)
    assert all(report.contribution is None for report in record.reports if report.client in removed)
    assert sum(report.weight for report in record.reports) == pytest.approx(1.0)


def test_a_summary_in_both_is_refused():
    with pytest.raises(ConfigError, match="both ask clients"):
        Scored(RobustVolume(), CompositeStatistics())
    scored = Scored(RobustVolume())
    assert scored.summary(0) is not None
    assert not scored.needs_server_data
    assert Scored(CosineGradient(), HeldOutAccuracy()).needs_server_data
    with pytest.raises(ConfigError, match="scale"):
        ByScore("rank")


class Normalised(Regressor):
    """Has running statistics, of which a round merges those of its widest submodels only."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(16)

    def forward(self, x):
        return self.out(torch.relu(self.norm(self.hidden(x))))


@pytest.mark.parametrize("divisor", [CoverageMean, ResidualRecovery])
@pytest.mark.parametrize("client", [Regressor, Normalised])
def test_the_coalition_of_all_is_the_round_itself(client, divisor):
    """v(N) is the utility of the real next model, under submodels and either divisor (§9.4)."""
    seen = []

    class Watching(pl.Callback):
        def on_train_batch_end(self, trainer, server, *_):
            seen.append(-server._desk.score(server.client.state_dict(), "val/loss"))

    algorithm = algorithm_of(ShapleyExact(), clients_per_round=None)
    algorithm.aggregation = divisor()
    torch.manual_seed(0)
    server = Server(client(), algorithm, ToyFleet(), seed=3)
    gains = []

    class Gains(pl.Callback):
        def on_train_batch_end(self, trainer, server, *_):
            gains.append(sum(report.contribution for report in server.last_round.reports))

    trainer = pl.Trainer(
        max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=0, callbacks=[Watching(), Gains()],
    )  # fmt: skip
    trainer.fit(server, datamodule=ToyData())
    for before, now, gain in zip(seen, seen[1:], gains[1:], strict=False):
        assert gain == pytest.approx(now - before, abs=1e-5)


def test_cgsv_of_utmost_altruism_gives_everyone_the_server_model():
    """§10.8: β → ∞ and q = 1: all clients equal, so CGSV is FedAvg on normalised updates with CGSV's weights."""
    generous = CGSV(altruism=1e9)
    server = run(generous, client=Regressor)
    plain = FedAvg(local=generous.local)
    plain.contribution = CosineGradient("full", start="nothing")
    plain.aggregation = ResidualRecovery(update_norm=0.5)
    expected = run(plain, client=Regressor).client.state_dict()
    for name, value in server.client.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-6)
        for client in range(4):
            own = generous.download.weights(server.round_state(), client)
            torch.testing.assert_close(own[name], value, rtol=0, atol=1e-6)
    greedy = run(CGSV(altruism=1.0), client=Regressor)
    own = greedy.algorithm.download.weights(greedy.round_state(), 0)
    assert any(not torch.equal(value, own[name]) for name, value in greedy.client.state_dict().items())
