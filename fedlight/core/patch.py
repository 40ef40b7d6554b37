"""Attributes lent to a module for the time of its training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

_ABSENT = object()


@contextmanager
def patched(module: nn.Module, **attributes: Any) -> Iterator[None]:
    """Set attributes on this one instance, and take them off (or put the former ones back) at the end."""
    before = {name: module.__dict__.get(name, _ABSENT) for name in attributes}
    module.__dict__.update(attributes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is _ABSENT:
                module.__dict__.pop(name, None)
            else:
                module.__dict__[name] = value
