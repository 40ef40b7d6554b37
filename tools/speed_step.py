"""What adaptive policies do when one of ten equal devices becomes four times slower: rounds until its ratio follows.

    python tools/speed_step.py [--before 30] [--after 60] [--factor 4] [--seeds 3]

Ten clients with one kind of device, whose time is mostly computing, learn scikit-learn's digits. All are sent off every
round. After ``before`` rounds client 0 computes four times slower, for good. Its lead is its ratio minus the mean ratio
of its nine unchanged twins, so a pace that moves for all doesn't count. Its new value is the mean lead of the last
twenty rounds; the ratio has followed with the first of three rounds on end whose lead is at least nine tenths of it.
Where the mean lead of the last twenty rounds is not above that of twenty rounds before the step by more than the two
means' standard errors leave open (Welch's t > 3), the ratio never follows.
"""

from __future__ import annotations

import argparse
import logging
import math
import warnings
from collections.abc import Callable

import lightning.pytorch as pl
import numpy as np
import torch

from fedlight.algorithms import FedLight, FedMP, FedPace, SpeedRatio
from fedlight.core import Algorithm, Server
from fedlight.data import Digits, DirichletByClient, FederatedDataModule
from fedlight.fleet import ChangingFleet, DeviceClass, DeviceFleet, SpeedStep
from fedlight.models import ConvNet

NUM_CLIENTS, EXAMPLES, WINDOW, ON_END, FOLLOWED = 10, 400, 20, 3, 0.9
ALGORITHMS: dict[str, Callable[[], Algorithm]] = {
    "SpeedRatio": SpeedRatio,
    "SpeedRatio, cost model known": lambda: SpeedRatio(cost_model="known"),
    "FedPace": FedPace,
    "FedMP": FedMP,
    "FedLight": FedLight,
}
DEVICE = DeviceClass("board", 1, macs_per_s=1e9, down_bits_per_s=1e8, up_bits_per_s=1e8, noise=0.1)


class Watch(pl.Callback):
    """Slows the client down after so many rounds, and notes all ratios and the length of every round."""

    def __init__(self, step: SpeedStep, before: int) -> None:
        self.leads: list[float] = []
        self.ratios: list[float] = []
        self.rounds_s: list[float] = []
        self._step, self._before, self._last_s = step, before, 0.0

    def on_train_epoch_end(self, trainer: pl.Trainer, server: pl.LightningModule) -> None:
        """Note a round."""
        assert isinstance(server, Server)
        assert server.last_round is not None
        ratios = {report.client: report.ratio for report in server.last_round.reports}
        self.ratios.append(ratios.pop(0))
        self.leads.append(self.ratios[-1] - float(np.mean(list(ratios.values()))))
        self.rounds_s.append(server.clock.now_s - self._last_s)
        self._last_s = server.clock.now_s
        if len(self.leads) == self._before:
            self._step.at_s = server.clock.now_s


def run(make: Callable[[], Algorithm], before: int, after: int, factor: float, seed: int) -> Watch:
    """Train once and return what was noted."""
    step = SpeedStep(at_s=1e30, factor=factor, clients=[0])
    watch = Watch(step, before)
    data = FederatedDataModule(
        Digits(),
        NUM_CLIENTS,
        DirichletByClient(0.5),
        batch_size=20,
        validation_fraction=0.0,
        max_train_examples=EXAMPLES,
        seed=seed,
    )
    fleet = ChangingFleet(DeviceFleet([DEVICE]), responsiveness=[step])
    torch.manual_seed(seed)
    trainer = pl.Trainer(
        max_epochs=before + after,
        accelerator="cpu",
        callbacks=[watch],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Server(ConvNet("digits", lr=0.05), make(), fleet, seed=seed), datamodule=data)
    return watch


def rounds_to_follow(leads: np.ndarray, before: int) -> int | None:
    """Return after how many rounds of the slow client its lead is at its new value; None: never."""
    old, new = leads[max(0, before - WINDOW) : before], leads[-WINDOW:]
    error = math.sqrt(old.var(ddof=1) / len(old) + new.var(ddof=1) / len(new))
    if new.mean() - old.mean() <= 3 * error:
        return None
    there = leads[before:] - old.mean() >= FOLLOWED * (new.mean() - old.mean()) - 1e-9
    whole = np.lib.stride_tricks.sliding_window_view(there, ON_END).all(axis=1)
    return int(np.argmax(whole)) + 1 if whole.any() else None


def row(name: str, watches: list[Watch], before: int) -> str:
    """Return one line of the table, means over seeds."""
    followed = [rounds_to_follow(np.array(watch.leads), before) for watch in watches]

    def mean(values: Callable[[Watch], list[float]], part: slice) -> float:
        return float(np.mean([values(watch)[part] for watch in watches]))

    old, new, end = slice(before - WINDOW, before), slice(before, before + 3), slice(-WINDOW, None)
    cells = [
        ", ".join("never" if rounds is None else str(rounds) for rounds in followed),
        f"{mean(lambda watch: watch.ratios, old):.2f} → {mean(lambda watch: watch.ratios, end):.2f}",
        f"{mean(lambda watch: watch.leads, old):+.2f} → {mean(lambda watch: watch.leads, end):+.2f}".replace("-", "−"),
        " → ".join(f"{1e3 * mean(lambda watch: watch.rounds_s, part):.0f}" for part in (old, new, end)),
    ]
    return f"| {name} | " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=int, default=30)
    parser.add_argument("--after", type=int, default=60)
    parser.add_argument("--factor", type=float, default=4.0)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print(
        "| policy | rounds until the ratio follows, by seed | its ratio | its lead | a round, ms: before, next 3, end |"
    )
    print("|---|---:|---:|---:|---:|")
    for name, make in ALGORITHMS.items():
        watches = [
            run(make, arguments.before, arguments.after, arguments.factor, seed) for seed in range(arguments.seeds)
        ]
        print(row(name, watches, arguments.before), flush=True)


if __name__ == "__main__":
    main()
