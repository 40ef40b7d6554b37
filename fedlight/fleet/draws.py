"""Random numbers by coordinates: the draw of a client at a place in time, whatever else was drawn before."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedlight.core.seeds import SERVER, derive_seed

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_STEP = np.uint64(0x9E3779B97F4A7C15)


class Draws:
    """Uniform and normal numbers as a pure function of (seed, purpose, client, place), over arrays.

    A counter-based generator: two rounds of SplitMix64's finaliser over the coordinates (Steele, Lea and Flood 2014,
    Fast splittable pseudorandom number generators, §4). Nothing is stored, so questions may come in any order, and
    100,000 of them cost a few milliseconds, where a generator each would cost seconds.

    Args:
        seed: the run's seed.
        purpose: what is drawn.
    """

    def __init__(self, seed: int, purpose: str) -> None:
        self._keys = tuple(np.uint64(derive_seed(seed, -1, SERVER, f"fleet/{purpose}/{index}")) for index in range(2))

    def uniform(self, clients: Ints, places: Ints) -> Floats:
        """Return a number in [0, 1) for every pair; arrays of shapes that broadcast, at least one of them 1-d."""
        return self._uniform(self._keys[0], clients, places)

    def normal(self, clients: Ints, places: Ints) -> Floats:
        """Return a standard normal number for every pair (Box and Muller 1958)."""
        radius = np.sqrt(-2.0 * np.log1p(-self._uniform(self._keys[0], clients, places)))
        normal: Floats = radius * np.cos(2.0 * np.pi * self._uniform(self._keys[1], clients, places))
        return normal

    @staticmethod
    def _uniform(key: np.uint64, clients: Ints, places: Ints) -> Floats:
        mixed = _mix(np.atleast_1d(clients).astype(np.uint64) * _STEP + key)
        mixed = _mix(mixed + np.atleast_1d(places).astype(np.uint64) * _STEP)
        uniform: Floats = (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return uniform


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def cells(times_s: Floats, length_s: float | Floats, offset_s: float | Floats = 0.0) -> Ints:
    """Return the numbers k of the cells [offset + k length, offset + (k + 1) length) that times lie in.

    Exact in floating point: the border ``offset + k * length`` itself belongs to cell k, however the quotient rounds.
    """
    k = np.floor((times_s - offset_s) / length_s)
    k = np.where(offset_s + (k + 1) * length_s <= times_s, k + 1, k)
    k = np.where(offset_s + k * length_s > times_s, k - 1, k)
    return k.astype(np.int64)
