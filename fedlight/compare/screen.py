"""One table of all runs while they run; where output is no terminal, a line whenever something changes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, final

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fedlight.compare.runner import Status, Tracked, Watcher
from fedlight.tracking.format import duration

COLORS: Final[dict[Status, str]] = {
    "waiting": "dim", "running": "bold cyan", "done": "green", "kept": "green", "failed": "bold red",
}  # fmt: skip

SPARE_LINES: Final = 8
"""Lines of a terminal that the table leaves free."""

SHOWN_FIRST: Final[tuple[Status, ...]] = ("running", "failed", "waiting", "done", "kept")
"""Whose rows stay where a terminal is too low for all."""


@final
class Screen:
    """Shows the runs; use it as a context.

    Args:
        tracked: the runs.
        metric: what is compared.
    """

    def __init__(self, tracked: Sequence[Tracked], metric: str) -> None:
        self._tracked = tracked
        self._metric = metric
        self._console = Console()
        self._live: Live | None = None
        self._told: dict[int, Status] = {}
        self._began_s = time.monotonic()

    def __enter__(self) -> Watcher:
        if self._console.is_terminal:
            self._live = Live(self._page(), console=self._console, auto_refresh=False)
            self._live.start(refresh=True)
        return Watcher(self._update, self._say)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._update()
        if self._live is not None:
            self._live.stop()

    def _say(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)

    def _update(self) -> None:
        if self._live is not None:
            self._live.update(self._page(), refresh=True)
            return
        for index, one in enumerate(self._tracked):
            if self._told.get(index, "waiting") != one.status:
                self._told[index] = one.status
                if one.status in ("done", "kept"):
                    self._say(self._told_line(one))

    def _told_line(self, one: Tracked) -> str:
        finished = sum(status in ("done", "kept", "failed") for status in self._told.values())
        _, value, simulated, wall = _facts(one)
        said = f"{one.ready.run.name}: {self._metric} {value} after {simulated} simulated"
        kept = " (kept from before)" if one.status == "kept" else f" in {wall}"
        return f"[{finished}/{len(self._tracked)}] {said}{kept}"

    def _page(self) -> Group:
        return Group(self._table(), Text(self._summary(), style="dim"))

    def _table(self) -> Table:
        axes = list(self._tracked[0].ready.run.cell) if self._tracked else []
        table = Table(box=box.ROUNDED)
        for name in ("variant", *axes):
            table.add_column(name, overflow="ellipsis", no_wrap=True)
        for name in ("seed", "round", self._metric, "simulated", "wall"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("status", no_wrap=True)
        for one in self._shown():
            run = one.ready.run
            status = Text(one.status, style=COLORS[one.status])
            table.add_row(run.label, *(run.cell[axis] for axis in axes), str(run.seed), *_facts(one), status)
        return table

    def _shown(self) -> list[Tracked]:
        """Return as many runs as there is room for, in their order."""
        room = max(1, self._console.height - SPARE_LINES)
        order = sorted(range(len(self._tracked)), key=lambda index: SHOWN_FIRST.index(self._tracked[index].status))
        return [self._tracked[index] for index in sorted(order[:room])]

    def _summary(self) -> str:
        counts = {status: sum(one.status == status for one in self._tracked) for status in reversed(SHOWN_FIRST)}
        parts = [f"{count} {status}" for status, count in counts.items() if count]
        spent_s = time.monotonic() - self._began_s
        left = counts["waiting"] + counts["running"]
        if counts["done"] and left:
            parts.append(f"about {duration(spent_s / counts['done'] * left)} left")
        return " · ".join([*parts, f"{duration(spent_s)} so far"])


def _facts(one: Tracked) -> tuple[str, str, str, str]:
    """Return round, metric, simulated and wall time of a run, as far as it has noted them."""
    progress = one.note.get("progress") or {}
    limit = f"/{one.ready.max_rounds}" if one.ready.max_rounds is not None else ""
    value, simulated_s, wall_s = progress.get("value"), progress.get("simulated_s"), one.note.get("wall_s")
    if one.status == "waiting" or not progress:
        return "", "", "", ""
    return (
        f"{progress.get('round')}{limit}",
        "" if value is None else f"{value:.4f}",
        "" if simulated_s is None else duration(simulated_s),
        "" if wall_s is None else duration(wall_s),
    )
