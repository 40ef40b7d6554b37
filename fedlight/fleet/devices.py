"""What every client's device can do, as arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import final

import numpy as np

from fedlight.core.fleet import Departure, FleetRow
from fedlight.core.seeds import numpy_generator
from fedlight.core.types import Timing, Work
from fedlight.fleet.draws import Floats, Ints
from fedlight.submodels.structure import Cost

COLUMNS: Mapping[str, float] = {
    "macs_per_s": math.nan,
    "down_bits_per_s": math.nan,
    "up_bits_per_s": math.nan,
    "latency_s": 0.0,
    "noise": 0.0,
    "memory_bytes": math.inf,
    "joules_per_mac": 0.0,
    "joules_per_byte_down": 0.0,
    "joules_per_byte_up": 0.0,
}
"""What is known of a device, and what holds where nothing is said (NaN: it must be said)."""


def training_bytes(cost: Cost) -> int:
    """Return the memory that training a submodel takes: state dict + 4 · 2 · parameters, in bytes.

    Weights and buffers, a gradient and one optimizer state (momentum) per parameter in 32 bits. Activations are not in
    it: they depend on the batch and on what the framework keeps, so a device's limit is what it has left beside them.
    """
    return cost.num_bytes + 8 * cost.parameters


@final
class Devices:
    """One device per client: nine numbers each (72 bytes), and the name of its kind.

    T = ε (download + compute + upload) with download = latency + 8 bytes / bandwidth, compute = MACs / speed, upload
    like download, and ε = exp(σ z), z ~ N(0, 1) drawn from (seed, round, client, repeat).

    Args:
        names: names of the kinds of device.
        kinds: int[num_clients], the kind of every client's.
        columns: some of :data:`COLUMNS` to float64[num_clients], those without a default among them.
        seed: the run's seed.
    """

    def __init__(self, names: Sequence[str], kinds: Ints, columns: Mapping[str, Floats], seed: int) -> None:
        self._names = list(names)
        self._kinds = kinds.astype(np.int32)
        self._columns = {
            name: np.ascontiguousarray(columns[name]) if name in columns else np.full(len(kinds), default)
            for name, default in COLUMNS.items()
        }
        self._seed = seed

    def __len__(self) -> int:
        return len(self._kinds)

    def column(self, name: str) -> Floats:
        """Return one of :data:`COLUMNS`, float64[num_clients]."""
        return self._columns[name]

    def name(self, client: int) -> str:
        """Return the name of the client's kind of device."""
        return self._names[int(self._kinds[client])]

    def expected(self, client: int, work: Work) -> Timing:
        """Return the seconds without noise, whose median is 1."""
        latency_s = self._of("latency_s", client)
        return Timing(
            download_s=latency_s + 8 * work.download_bytes / self._of("down_bits_per_s", client),
            compute_s=work.macs / self._of("macs_per_s", client),
            upload_s=latency_s + 8 * work.upload_bytes / self._of("up_bits_per_s", client),
        )

    def timing(self, departure: Departure, work: Work) -> Timing:
        """Return the seconds of a job; a repeated one draws noise of its own."""
        client, median = departure.client, self.expected(departure.client, work)
        spread = self._of("noise", client)
        if not spread:
            return median
        purpose = f"fleet/{departure.repeat}" if departure.repeat else "fleet"
        noise = math.exp(spread * numpy_generator(self._seed, departure.round_idx, client, purpose).standard_normal())
        return Timing(noise * median.download_s, noise * median.compute_s, noise * median.upload_s)

    def fits(self, client: int, cost: Cost) -> bool:
        """Return whether :func:`training_bytes` are within the client's limit."""
        return training_bytes(cost) <= self._of("memory_bytes", client)

    def energy_j(self, client: int, work: Work) -> float:
        """Return joules_per_mac · MACs + joules_per_byte_down · bytes + joules_per_byte_up · bytes."""
        return (
            self._of("joules_per_mac", client) * work.macs
            + self._of("joules_per_byte_down", client) * work.download_bytes
            + self._of("joules_per_byte_up", client) * work.upload_bytes
        )

    def table(self) -> list[FleetRow]:
        """Return one row per kind that has clients, in the order of the names."""
        rows = []
        for kind, name in enumerate(self._names):
            mine = np.flatnonzero(self._kinds == kind)
            if len(mine):
                medians = {column: float(np.median(values[mine])) for column, values in self._columns.items()}
                medians["joules_per_byte"] = medians.pop("joules_per_byte_up")
                del medians["joules_per_byte_down"]
                rows.append(FleetRow(name, len(mine), **medians))
        return rows

    def _of(self, column: str, client: int) -> float:
        return float(self._columns[column][client])
