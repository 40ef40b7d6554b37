"""Who is up and not at work, without a copy of everyone who is up."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, final, overload

import numpy as np
import numpy.typing as npt


@final
class Idle(Sequence[int]):
    """The clients that are up, ascending, less those at work: a view that costs O(at work · log(up)).

    As an array (``numpy.asarray``), or to walk through, it costs O(up).

    Args:
        up: clients that are up, ascending: a range of step 1 or an array.
        at_work: clients at work, up or not.
    """

    def __init__(self, up: Sequence[int], at_work: Collection[int]) -> None:
        self._up = up
        busy = np.sort(np.fromiter(at_work, dtype=np.int64, count=len(at_work)))  # sorted, they are found much faster
        if isinstance(up, range):
            self._gone = busy[(busy >= up.start) & (busy < up.stop)] - up.start
        else:
            places = np.searchsorted(up, busy)
            there = places < len(up)
            self._gone = places[there][np.asarray(up)[places[there]] == busy[there]]
        # How many idle ones stand before each of those that are gone.
        self._before = self._gone - np.arange(len(self._gone))

    def __len__(self) -> int:
        """Number of idle clients."""
        return len(self._up) - len(self._gone)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> list[int]: ...
    def __getitem__(self, index: int | slice) -> int | list[int]:
        """Return one idle client, or some."""
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        index = index + len(self) if index < 0 else index
        if not 0 <= index < len(self):
            raise IndexError(index)
        return int(self._up[index + int(np.searchsorted(self._before, index, side="right"))])

    def __iter__(self) -> Iterator[int]:
        """Walk through them, ascending."""
        return iter(self.__array__().tolist())

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        """Return int64[len]."""
        return np.delete(np.asarray(self._up, dtype=np.int64), self._gone).astype(dtype or np.int64, copy=False)
