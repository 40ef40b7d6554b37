"""Print when runs reached an accuracy, from their TensorBoard logs.

    python tools/time_to_accuracy.py --targets 0.75 0.80 -- runs/fedavg runs/speedratio

A target is reached at the first round whose accuracy is at least it; its time is the simulated time of that round.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fedlight.core.tags import SIMULATED_S


def read_scalars(run: Path, *tags: str) -> dict[str, dict[int, float]]:
    """Return step to value by tag, over all event files of a run: of the tags named, or of all where none is."""
    found: dict[str, dict[int, float]] = {tag: {} for tag in tags}
    for events in sorted(run.rglob("events.out.tfevents.*")):
        log = EventAccumulator(str(events), size_guidance={"scalars": 0}).Reload()
        for tag in log.Tags()["scalars"]:
            if not tags or tag in tags:
                found.setdefault(tag, {}).update({event.step: event.value for event in log.Scalars(tag)})
    return found


def read_curve(run: Path, tag: str) -> list[tuple[float, float]]:
    """Return (simulated seconds, value) for every round in which ``tag`` was logged, over all event files of a run."""
    scalars = read_scalars(run, SIMULATED_S, tag)
    times, values = scalars[SIMULATED_S], scalars[tag]
    return [(times[step], values[step]) for step in sorted(values) if step in times]


def first_crossing(curve: list[tuple[float, float]], target: float) -> float | None:
    """Return the simulated time of the first round at or above ``target``, None if there is none."""
    return next((time for time, value in curve if value >= target), None)


def main() -> None:
    """Print one Markdown row per run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs")
    parser.add_argument("--tag", default="val/accuracy")
    parser.add_argument("--targets", nargs="*", type=float, default=[])
    arguments = parser.parse_args()
    heads = ["run", "rounds", "simulated s", "last", "best", *(f"s to {target:g}" for target in arguments.targets)]
    print("| " + " | ".join(heads) + " |")
    print("|" + "---|" * len(heads))
    for run in arguments.runs:
        curve = read_curve(run, arguments.tag)
        if not curve:
            print(f"| {run.name} | no {arguments.tag} logged |")
            continue
        reached = [first_crossing(curve, target) for target in arguments.targets]
        cells = [
            run.name,
            str(len(curve)),
            f"{curve[-1][0]:.1f}",
            f"{curve[-1][1]:.4f}",
            f"{max(v for _, v in curve):.4f}",
        ]
        print("| " + " | ".join([*cells, *("-" if time is None else f"{time:.1f}" for time in reached)]) + " |")


if __name__ == "__main__":
    main()
