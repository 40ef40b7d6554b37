"""Runs what a comparison has planned: several processes at a time, each one ``fedlight fit``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen, TimeoutExpired
from typing import IO, Any, Literal, final

from fedlight.compare.folder import Ready, Start, clear, find_start, is_done
from fedlight.errors import ConfigError
from fedlight.tracking.run_note import DONE, FAILED, NEVER_LOGGED, read_note, write_note

LOG = "log.txt"
"""What a run prints, in its folder."""

POLL_S = 0.25
"""Seconds between two looks at the processes."""

GRACE_S = 20.0
"""Seconds that a process has to end when it is asked to, before it is killed."""

Status = Literal["waiting", "running", "done", "kept", "failed"]


@dataclass
class Tracked:
    """A run as the runner sees it.

    Attributes:
        ready: the run.
        status: ``kept``: it was done before.
        note: what the run has noted of itself.
        error: what it failed with.
        began_s: when its process was started, of ``time.monotonic``.
    """

    ready: Ready
    status: Status = "waiting"
    note: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    began_s: float = 0.0


@dataclass(frozen=True)
class Watcher:
    """What the runner tells while it runs.

    Attributes:
        update: called when something may have changed.
        say: called with a line that should stay on the screen.
    """

    update: Callable[[], None]
    say: Callable[[str], None]


@final
class Runner:
    """Runs all that isn't done, ``jobs`` processes at a time; a run that fails doesn't stop the others.

    Args:
        runs: the runs, in the order in which they are started.
        jobs: processes at a time.
        inherited: descriptor that the processes inherit, so that the folder stays locked while one is left.
    """

    def __init__(self, runs: Sequence[Ready], jobs: int, inherited: int | None = None) -> None:
        self.tracked = [Tracked(run, "kept" if is_done(run) else "waiting") for run in runs]
        for one in self.tracked:
            one.note = read_note(one.ready.run.folder) if one.status == "kept" else {}
        self._jobs = jobs
        self._inherited = () if inherited is None else (inherited,)
        self._processes: dict[int, tuple[Popen[bytes], IO[bytes]]] = {}

    @property
    def failed(self) -> list[Tracked]:
        """The runs that failed."""
        return [one for one in self.tracked if one.status == "failed"]

    def run(self, watcher: Watcher) -> None:
        """Run, until nothing is left to start and all have ended.

        Raises:
            ConfigError: the runs don't log the metric that is compared: no other one would.
            KeyboardInterrupt: as it came; the processes have ended, and what they have done is kept.
        """
        waiting = [index for index, one in enumerate(self.tracked) if one.status == "waiting"]
        try:
            while waiting or self._processes:
                while waiting and len(self._processes) < self._jobs:
                    self._start(waiting.pop(0), watcher)
                time.sleep(POLL_S)
                for index in list(self._processes):
                    self._look(index, watcher)
                watcher.update()
        finally:
            self._end_all()

    def _start(self, index: int, watcher: Watcher) -> None:
        one = self.tracked[index]
        run, start = one.ready.run, find_start(one.ready)
        if start.reason:
            watcher.say(f"{run.name} begins anew: {start.reason}")
        if start.ckpt_path is None:
            clear(run.folder)
        run.folder.mkdir(parents=True, exist_ok=True)
        log = (run.folder / LOG).open("ab")
        process = Popen(  # noqa: S603 - our own program
            _command(one.ready, start),
            stdin=DEVNULL,
            stdout=log,
            stderr=STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": str(run.threads), "PYTHONUNBUFFERED": "1"},
            pass_fds=self._inherited,
        )
        one.status, one.began_s = "running", time.monotonic()
        self._processes[index] = process, log

    def _look(self, index: int, watcher: Watcher) -> None:
        """Take in what a process has noted, and whether it has ended."""
        one = self.tracked[index]
        process, log = self._processes[index]
        code = process.poll()
        one.note = read_note(one.ready.run.folder)
        if code is None:
            return
        log.close()
        del self._processes[index]
        if code == 0 and is_done(one.ready):
            one.status = "done"
            return
        one.status, one.error = "failed", _error(one, code)
        run = one.ready.run
        identity = {"label": run.label, "cell": dict(run.cell), "seed": run.seed, "config_hash": one.ready.config_hash}
        one.note = {**identity, "command": ["fedlight", *run.arguments], **one.note, "status": FAILED}
        one.note["error"] = one.error
        write_note(run.folder, one.note)
        if one.error.startswith(NEVER_LOGGED):
            raise ConfigError(one.error)
        watcher.say(f"{run.name} failed: {one.error} (its output: {run.folder / LOG})")

    def _end_all(self) -> None:
        """Ask the processes to end, then make them."""
        for process, _ in self._processes.values():
            process.terminate()
        deadline = time.monotonic() + GRACE_S
        for process, log in self._processes.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except TimeoutExpired:
                process.kill()
                process.wait()
            log.close()
        self._processes.clear()


def _command(ready: Ready, start: Start) -> list[str]:
    more = () if start.ckpt_path is None else ("--ckpt_path", str(start.ckpt_path))
    return [sys.executable, "-m", "fedlight.cli", *ready.run.arguments, *more]


def _error(one: Tracked, code: int) -> str:
    """Return in one line why a run isn't done although its process has ended."""
    if code == 0 and one.note.get("status") == DONE:
        return "the base config was changed while the comparison ran; put it back, or choose another --out"
    if code < 0:
        return f"ended by signal {-code}" + (" (out of memory?)" if code == -9 else "")
    return _last_line(one.ready.run.folder / LOG) or f"ended with exit code {code}"


def _last_line(path: Path) -> str:
    """Return the program's own last word, else the last line that isn't empty."""
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    own = [line.removeprefix("fedlight: ") for line in lines if line.startswith("fedlight: ")]
    return (own or lines or [""])[-1]
