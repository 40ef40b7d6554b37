"""A fleet whose devices are measured ones, from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

import numpy as np

from fedlight.errors import ConfigError, DataError
from fedlight.fleet.assignment import assigned
from fedlight.fleet.devices import COLUMNS, Devices
from fedlight.fleet.draws import Floats
from fedlight.fleet.steady_fleet import SteadyFleet
from fedlight.fleet.trace_file import number, positive, read_entries, read_table

_ZERO_IS_FINE = ("latency_s", "noise", "joules_per_mac", "joules_per_byte_down", "joules_per_byte_up")


@final
class TraceFleet(SteadyFleet):
    """One measured device per row of a file; clients draw theirs from the run's seed, none twice while there are more.

    A CSV file has a header line and these columns, in any order: ``device`` (a name, optional); ``macs_per_s``, or
    ``ms_per_example`` of inference; ``down_bits_per_s`` and ``up_bits_per_s``, or ``kbps`` for both; and, optional,
    ``latency_s``, ``noise``, ``memory_bytes``, ``joules_per_mac``, ``joules_per_byte_down``, ``joules_per_byte_up``. A
    file that ends in .json or .pkl is read as FedScale's device capacities, {client: {computation: ms per example of
    inference, communication: kbit/s}} (Lai et al. 2022, FedScale, ICML).

    Speed from a time of inference: MAC/s = 1000 reference_macs / ms, reference_macs being those of one forward pass of
    the network that was timed. Training then takes 3 · examples · ms / 1000 for that network, as in FedScale's own
    clock (its factor 3 is backward at twice the cost of forward), and in proportion to its MACs for any submodel.

    Args:
        path: the file.
        reference_macs: forward MACs of the network that ``ms_per_example`` or ``computation`` timed, > 0. FedScale
            doesn't name it; 300 million are MobileNetV2's.
        noise: standard deviation of the log of a job's time where the file has no such column, >= 0.
        shuffle: draw who has which row; else client k has row k, and the rows begin again where they end.
    """

    def __init__(self, path: str, reference_macs: float = 300e6, noise: float = 0.1, shuffle: bool = True) -> None:
        if not 0 < reference_macs < np.inf:
            raise ConfigError(f"reference_macs={reference_macs} is no number of MACs: give one above 0")
        if not 0 <= noise < np.inf:
            raise ConfigError(f"noise={noise} is no standard deviation: give a number, at least 0")
        self.path = path
        self.reference_macs = reference_macs
        self.noise = noise
        self.shuffle = shuffle

    def draw(self, num_clients: int, seed: int) -> Devices:
        """Read the file and draw every client's row.

        Raises:
            DataError: the file is missing or holds what can't be; names the row and the column.
        """
        table = self._table() if Path(self.path).suffix == ".csv" else self._entries()
        names = table.pop("device", None)
        num_rows = len(table["macs_per_s"])
        rows = assigned(num_rows, num_clients, seed, "devices", self.shuffle)
        kinds, of_row = np.unique(names or ["traced"] * num_rows, return_inverse=True)
        columns: dict[str, Floats] = {name: np.array(values)[rows] for name, values in table.items()}
        columns.setdefault("noise", np.full(num_clients, self.noise))
        return Devices([str(name) for name in kinds], of_row[rows], columns, seed)

    def _table(self) -> dict[str, list[Any]]:
        table = read_table(self.path, ("device", *COLUMNS, "ms_per_example", "kbps"), texts=("device",))
        for name, values in table.items():
            if name != "device":
                positive(values, self.path, name, 0.0 if name in _ZERO_IS_FINE else None)
        self._one_of(table, ("macs_per_s",), "ms_per_example")
        self._one_of(table, ("down_bits_per_s", "up_bits_per_s"), "kbps")
        if "ms_per_example" in table:
            table["macs_per_s"] = [1e3 * self.reference_macs / value for value in table.pop("ms_per_example")]
        if "kbps" in table:
            table["down_bits_per_s"] = table["up_bits_per_s"] = [1e3 * value for value in table.pop("kbps")]
        return table

    def _one_of(self, table: dict[str, list[Any]], names: tuple[str, ...], other: str) -> None:
        said = [name for name in names if name in table]
        if said and other in table:
            raise DataError(f"{self.path}: columns {said[0]} and {other} say the same; leave one out")
        missing = [name for name in names if name not in table]
        if missing and other not in table:
            raise DataError(f"{self.path}: there is no column {missing[0]}; give it, or {other}")

    def _entries(self) -> dict[str, list[Any]]:
        keys = ("computation", "communication")
        values: dict[str, list[float]] = {key: [] for key in keys}
        for client, entry in read_entries(self.path, keys).items():
            for key in keys:
                value = number(entry[key], f"{self.path}, entry {client}, key {key}")
                if value <= 0:
                    raise DataError(f"{self.path}, entry {client}, key {key}: {value:g} is not above 0")
                values[key].append(value)
        bits_per_s = [1e3 * value for value in values["communication"]]
        return {
            "macs_per_s": [1e3 * self.reference_macs / value for value in values["computation"]],
            "down_bits_per_s": bits_per_s,
            "up_bits_per_s": bits_per_s,
        }
