"""The fleet as a table: which devices there are, and what changes over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from rich import box
from rich.table import Table

from fedlight.core.fleet import FleetRow
from fedlight.tracking.format import duration, percent, quantity

_COLUMNS: Final[Mapping[str, Callable[[FleetRow], str]]] = {
    "device": lambda row: row.device,
    "clients": lambda row: f"{row.num_clients:,}",
    "GMAC/s": lambda row: f"{row.macs_per_s / 1e9:.3g}",
    "Mbit/s down/up": lambda row: f"{row.down_bits_per_s / 1e6:.3g}/{row.up_bits_per_s / 1e6:.3g}",
    "latency": lambda row: duration(row.latency_s) if row.latency_s else "",
    "noise": lambda row: percent(row.noise) if row.noise else "",
    "memory": lambda row: quantity(row.memory_bytes, "B") if math.isfinite(row.memory_bytes) else "",
    "J/GMAC": lambda row: f"{1e9 * row.joules_per_mac:.3g}" if row.joules_per_mac else "",
    "J/MB": lambda row: f"{1e6 * row.joules_per_byte:.3g}" if row.joules_per_byte else "",
}


def fleet_cells(rows: Sequence[FleetRow]) -> list[list[str]]:
    """Return a header and one line per kind of device; columns about which nothing is known are left out."""
    columns = {name: [show(row) for row in rows] for name, show in _COLUMNS.items()}
    told = {name: cells for name, cells in columns.items() if any(cells)}
    return [list(told), *(list(line) for line in zip(*told.values(), strict=True))]


def fleet_table(rows: Sequence[FleetRow], changes: Mapping[str, str]) -> Table:
    """Return the table that a fit prints first; ``changes`` are its last lines."""
    header, *lines = fleet_cells(rows)
    caption = "\n".join(f"{axis}: {told}" for axis, told in changes.items())
    table = Table(title="Fleet", title_justify="left", title_style="bold", box=box.ROUNDED, caption=caption or None)
    table.caption_justify = "left"
    for name in header:
        table.add_column(name.replace(" ", "\n"), justify="left" if name == "device" else "right", no_wrap=True)
    for line in lines:
        table.add_row(*line)
    return table
