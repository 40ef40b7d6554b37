"""What a run was computed with, so that a reader can tell what its seconds mean."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import torch

PACKAGES: Final = (
    "fedlight", "torch", "torchvision", "lightning", "torchmetrics", "torch-pruning", "jsonargparse", "numpy",
)  # fmt: skip
"""Packages whose versions are noted."""

CPU_INFO: Final = Path("/proc/cpuinfo")
GIT_TIMEOUT_S: Final = 5.0


def describe_environment() -> dict[str, Any]:
    """Return versions, hardware and commit as plain values; what can't be found out is None."""
    return {
        "versions": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "commit": _commit(),
    }


def peak_memory_bytes() -> int | None:
    """Return the largest resident memory of this process so far, None where the system doesn't tell."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else 1024 * peak


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str | None:
    """Return the processor's name; what the platform module knows on Linux is only its kind."""
    if CPU_INFO.is_file():
        for line in CPU_INFO.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or None


def _commit() -> str | None:
    """Return the commit of the working folder, with ``-dirty`` where files differ from it."""
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
