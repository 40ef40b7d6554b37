"""Reading trace files: CSV, and FedScale's dictionaries as JSON or pickle, without running what is in them."""

from __future__ import annotations

import csv
import json
import math
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from fedlight.errors import DataError

PICKLES = (".pkl", ".pickle")


def read_table(path: str, columns: Sequence[str], texts: Sequence[str] = ()) -> dict[str, list[Any]]:
    """Read a CSV file with a header line.

    Args:
        path: the file.
        columns: names that its columns may have; any subset, in any order.
        texts: those of them that hold text; all others hold finite numbers.

    Returns:
        column name to its values, row by row.

    Raises:
        DataError: no such file, no rows, an unknown or repeated column, a row of another length, or no number; names
            the file, the row (counted as an editor counts lines) and the column.
    """
    with _existing(path).open(newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file)
        header = [name.strip() for name in next(rows, [])]
        for name in header:
            if name not in columns:
                raise DataError(f"{path}: column {name!r} is unknown; columns are {', '.join(columns)}")
            if header.count(name) > 1:
                raise DataError(f"{path}: column {name!r} is there {header.count(name)} times; leave one")
        table: dict[str, list[Any]] = {name: [] for name in header}
        for row in rows:
            if not row:
                continue
            where = f"{path}, row {rows.line_num}"
            if len(row) != len(header):
                raise DataError(f"{where} has {len(row)} values for {len(header)} columns; give one for each")
            for name, value in zip(header, row, strict=True):
                text = value.strip()
                table[name].append(text if name in texts else number(text, f"{where}, column {name}"))
    if not header or not next(iter(table.values())):
        raise DataError(f"{path} holds no rows: give a header line and at least one row below it")
    return table


def read_entries(path: str, keys: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Mapping[str, Any]]:
    """Read FedScale's format, a dictionary of one dictionary per client, from JSON or a pickle.

    A pickle is read by an unpickler that knows dictionaries, lists, tuples, sets, numbers and text alone: nothing in
    the file can name a function or a class.

    Args:
        path: the file; its ending says which (``.json``, ``.pkl``, ``.pickle``).
        keys: what every inner dictionary holds.
        optional: what it may hold besides.

    Raises:
        DataError: no such file, not to be read, not such a dictionary, an unknown key or a missing one; names the file
            and the entry.
    """
    file = _existing(path)
    try:
        content = _unpickle(file) if file.suffix in PICKLES else json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, EOFError, pickle.UnpicklingError, KeyError, IndexError, TypeError, AttributeError) as error:
        kind = "a pickle" if file.suffix in PICKLES else "JSON"
        raise DataError(
            f"{path} can't be read as {kind} ({str(error).splitlines()[0] if str(error) else type(error).__name__}); "
            "give a file of FedScale's, .pkl or .json, or a .csv"
        ) from error
    if not isinstance(content, Mapping) or not content:
        raise DataError(f"{path} holds no dictionary of clients: it needs {{client: {{{', '.join(keys)}}}}}")
    for name, entry in content.items():
        if not isinstance(entry, Mapping):
            raise DataError(f"{path}, entry {name}: is {type(entry).__name__}, not a dictionary of {', '.join(keys)}")
        unknown = [key for key in entry if key not in (*keys, *optional)]
        if unknown:
            known = ", ".join((*keys, *optional))
            raise DataError(f"{path}, entry {name}: key {unknown[0]!r} is unknown; keys are {known}")
        missing = [key for key in keys if key not in entry]
        if missing:
            raise DataError(f"{path}, entry {name}: there is no key {missing[0]}; every client needs it")
    return {str(name): entry for name, entry in content.items()}


def number(value: Any, where: str) -> float:
    """Return a finite number; raises DataError that names ``where``."""
    try:
        result = float(value)
    except (TypeError, ValueError):
        result = math.nan
    if not math.isfinite(result) or isinstance(value, bool):
        raise DataError(f"{where}: {value!r} is no finite number")
    return result


def positive(values: Sequence[float], path: str, column: str, at_least: float | None = None) -> None:
    """Raise DataError for the first value that is not above 0 (or below ``at_least``), by file and row number."""
    for index, value in enumerate(values):
        if not (value > 0 if at_least is None else value >= at_least):
            wanted = "above 0" if at_least is None else f"at least {at_least:g}"
            raise DataError(f"{path}, row {index + 1} of its data, column {column}: {value:g} is not {wanted}")


def _existing(path: str) -> Path:
    file = Path(path)
    if not file.is_file():
        raise DataError(f"there is no trace file {path}; give the path of one, as seen from where the run is started")
    return file


class _PlainUnpickler(pickle.Unpickler):
    """Reads containers, numbers and text; whatever asks for a name from a module is refused."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only plain containers and numbers are read")


def _unpickle(file: Path) -> Any:
    with file.open("rb") as stream:
        return _PlainUnpickler(stream).load()
