"""The program as a shell sees it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fedlight.cli import entry

LIST = ("compare", "--config", "configs/compare/quickstart.yaml", "--out", "nowhere", "--print_commands")


@pytest.mark.parametrize("arguments", [("--help",), LIST])
def test_a_reader_that_closes_the_output_ends_it_without_a_word(request, arguments):
    """``fedlight ... | head`` ends as any command of Unix does: 128 + SIGPIPE (13), and nothing on stderr."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as output:
        command = [sys.executable, "-u", "-m", "fedlight.cli", *arguments]
        done = subprocess.run(
            command, stdout=output, stderr=subprocess.PIPE, text=True, check=False, cwd=request.config.rootpath
        )
    assert (done.returncode, done.stderr) == (128 + 13, "")


def test_another_pipe_that_breaks_is_a_failure(monkeypatch, capsys):
    def break_down(arguments):
        raise BrokenPipeError("of a worker")

    monkeypatch.setattr(entry, "_dispatch", break_down)
    assert entry.main(["fit"]) == entry.FAILED
    assert "fit failed: BrokenPipeError: of a worker" in capsys.readouterr().err


def test_no_output_at_all(monkeypatch):
    """``fedlight ... >&-``: then Python has no sys.stdout."""
    monkeypatch.setattr(entry, "_dispatch", lambda arguments: None)
    monkeypatch.setattr(sys, "stdout", None)
    assert entry.main(["fit"]) == entry.OK
