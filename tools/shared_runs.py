"""Run many algorithms on Fashion-MNIST to equal simulated time, paired by seed, and print one table.

    python tools/shared_runs.py runs/shared --root ~/data --variants SynFL FedMP FedPace --seeds 0 1 2

Every run is one `fedlight fit` command (printed), so any of them can be repeated by hand. Runs of a seed share initial
weights, clients' data, batches and devices. A run whose folder holds the file `done` is not run again. A variant is an
algorithm's name, or ``"Label=Name --option value ..."`` with further options of `fedlight fit`.
"""

from __future__ import annotations

import argparse
import math
import os
import shlex
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from time_to_accuracy import first_crossing, read_scalars

from fedlight.core import tags

CONFIG = "configs/fashion_mnist.yaml"
ACCURACY = "val/accuracy"


@dataclass(frozen=True)
class Run:
    """One command and where it writes."""

    label: str
    fleet: str
    seed: int
    folder: Path
    command: list[str]


def main() -> None:
    """Run what isn't done, then print the tables."""
    arguments = _parse()
    runs = [
        _plan(arguments, variant, fleet, seed)
        for fleet in arguments.fleets
        for seed in arguments.seeds
        for variant in arguments.variants
    ]
    if not arguments.table_only:
        with ThreadPoolExecutor(arguments.jobs) as pool:
            list(pool.map(_execute, runs))
    for fleet in arguments.fleets:
        _print_table([run for run in runs if run.fleet == fleet], fleet, arguments)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the runs")
    parser.add_argument("--root", default="data", help="folder of the images")
    parser.add_argument("--variants", nargs="+", required=True)
    parser.add_argument("--fleets", nargs="+", default=["High"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--simulated_s", type=float, default=360.0, help="stop each run at this simulated time")
    parser.add_argument("--max_rounds", type=int, default=1000)
    parser.add_argument("--max_train_examples", type=int, default=6000)
    parser.add_argument("--targets", nargs="+", type=float, default=[0.75, 0.80])
    parser.add_argument("--baseline", default="SynFL", help="label that speed-ups are over")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--table_only", action="store_true", help="run nothing, print the table of what is there")
    return parser.parse_args()


def _plan(arguments: argparse.Namespace, variant: str, fleet: str, seed: int) -> Run:
    label, _, given = variant.partition("=")
    name, *options = shlex.split(given or label)
    folder = arguments.out / f"{fleet}_{label}_{seed}"
    stop = "--trainer.callbacks+=lightning.pytorch.callbacks.EarlyStopping"
    command = [
        *("fedlight", "fit", "--config", CONFIG, "--data.server_fraction", "0", "--model.algorithm", name, *options),
        *("--model.fleet", fleet, "--seed_everything", str(seed)),
        *("--data.dataset.init_args.root", arguments.root),
        *("--data.max_train_examples", str(arguments.max_train_examples)),
        *("--data.validate_on", "test", "--trainer.limit_val_batches", "8", "--test_after_fit", "false"),
        *("--trainer.max_epochs", str(arguments.max_rounds), "--trainer.default_root_dir", str(folder)),
        *(stop, f"--trainer.callbacks.monitor={tags.SIMULATED_S}", "--trainer.callbacks.mode=max"),
        *("--trainer.callbacks.patience=100000", f"--trainer.callbacks.stopping_threshold={arguments.simulated_s}"),
        "--trainer.callbacks.check_on_train_epoch_end=true",
    ]
    return Run(label, fleet, seed, folder, command)


def _execute(run: Run) -> None:
    if (run.folder / "done").exists():
        return
    print(" ".join(run.command), flush=True)
    run.folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "fedlight.cli", *run.command[1:]]
    started = time.perf_counter()
    with (run.folder / "log.txt").open("w") as log:
        code = subprocess.run(
            command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
        ).returncode
    if code:
        print(f"{run.folder.name} failed: see {run.folder / 'log.txt'}", flush=True)
        return
    (run.folder / "done").write_text(f"{time.perf_counter() - started:.1f}\n")


@dataclass(frozen=True)
class _Row:
    rounds: int
    accuracy: float
    crossings: list[float | None]
    gigabytes: float
    tera_macs: float
    waiting: float


def _read(run: Run, arguments: argparse.Namespace) -> _Row | None:
    scalars = read_scalars(run.folder)
    times, accuracy = scalars.get(tags.SIMULATED_S, {}), scalars.get(ACCURACY, {})
    steps = [step for step in sorted(accuracy) if step in times and times[step] <= arguments.simulated_s * 1.1]
    if not steps:
        return None
    curve = [(times[step], accuracy[step]) for step in steps]
    last = [value for second, value in curve if second <= arguments.simulated_s][-5:] or [curve[0][1]]

    def total(tag: str) -> float:
        return sum(value for step, value in scalars[tag].items() if step <= steps[-1])

    return _Row(
        len(steps),
        statistics.fmean(last),
        [first_crossing(curve, target) for target in arguments.targets],
        (total(tags.UPLINK_BYTES) + total(tags.DOWNLINK_BYTES)) / 1e9,
        total(tags.MACS) / 1e12,
        statistics.fmean(scalars[tags.WAITING_SHARE][step] for step in steps),
    )


def _print_table(runs: list[Run], fleet: str, arguments: argparse.Namespace) -> None:
    rows = {(run.label, run.seed): row for run in runs if (row := _read(run, arguments)) is not None}
    labels = list(dict.fromkeys(run.label for run in runs if any(label == run.label for label, _ in rows)))
    heads = ["algorithm", "seeds", "rounds", "final accuracy"]
    heads += [f"s to {target:g}" for target in arguments.targets]
    heads += [f"speed-up at {target:g}" for target in arguments.targets]
    print(
        f"\n{fleet}, {arguments.simulated_s:g} simulated s; accuracy: mean of the last five rounds within that time\n"
    )
    print("| " + " | ".join([*heads, "GB", "TMAC", "waiting"]) + " |")
    print("|" + "---|" * (len(heads) + 3))
    for label in labels:
        mine = {seed: row for (name, seed), row in rows.items() if name == label}
        cells = [label, str(len(mine)), f"{statistics.fmean(row.rounds for row in mine.values()):.0f}"]
        cells.append(_spread([row.accuracy for row in mine.values()], 4))
        for number in range(len(arguments.targets)):
            reached = [row.crossings[number] for row in mine.values()]
            cells.append(_spread([time for time in reached if time is not None], 1, len(reached)))
        cells += [_speed_up(rows, mine, number, arguments.baseline) for number in range(len(arguments.targets))]
        cells += [
            f"{statistics.fmean(getattr(row, name) for row in mine.values()):.{digits}f}"
            for name, digits in (("gigabytes", 2), ("tera_macs", 2), ("waiting", 2))
        ]
        print("| " + " | ".join(cells) + " |")


def _speed_up(rows: dict[tuple[str, int], _Row], mine: dict[int, _Row], number: int, baseline: str) -> str:
    """Geometric mean and range over the seeds in which both got there."""
    logs = []
    for seed, row in mine.items():
        theirs = rows.get((baseline, seed))
        if theirs is not None and theirs.crossings[number] and row.crossings[number]:
            logs.append(math.log(theirs.crossings[number] / row.crossings[number]))
    if not logs:
        return "-"
    mean = f"{math.exp(statistics.fmean(logs)):.1f}"
    return mean if len(logs) == 1 else f"{mean} ({math.exp(min(logs)):.1f}-{math.exp(max(logs)):.1f})"


def _spread(values: list[float], digits: int, count: int | None = None) -> str:
    if not values:
        return "-"
    mean = f"{statistics.fmean(values):.{digits}f}"
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return mean + spread + (f" ({len(values)} of {count})" if count is not None and len(values) < count else "")


if __name__ == "__main__":
    main()
