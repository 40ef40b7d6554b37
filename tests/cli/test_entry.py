"""The program as a shell sees it."""

from __future__ import annotations

import os
import subprocess
import sys


def test_a_reader_that_closes_the_output_ends_it_without_a_word():
    """``fedlight --help | head`` ends as any command of Unix does: 128 + SIGPIPE (13), and nothing on stderr."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as output:
        command = [sys.executable, "-m", "fedlight.cli", "--help"]
        done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (128 + 13, "")
