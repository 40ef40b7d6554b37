"""Shapley values of a game v: sets of players to a number; exact, and by permutations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import numpy as np

from fedlight.errors import ConfigError

Value = Callable[[frozenset[int]], float]
"""v(S). Ask as often as you like: who gives it remembers."""


def exact(players: Sequence[int], value: Value) -> dict[int, float]:
    """Return φ_i = Σ_{S ⊆ N - i} |S|! (m - |S| - 1)! / m! [v(S ∪ i) - v(S)]; asks for 2^m values."""
    size = len(players)
    shapley = dict.fromkeys(players, 0.0)
    for player in players:
        others = [other for other in players if other != player]
        for count in range(size):
            weight = math.factorial(count) * math.factorial(size - count - 1) / math.factorial(size)
            for chosen in combinations(others, count):
                without = frozenset(chosen)
                shapley[player] += weight * (value(without | {player}) - value(without))
    return shapley


def truncated_marginals(order: Sequence[int], value: Value, tolerance: float, patience: int) -> dict[int, float]:
    """Return marginals along one order (TMC): stop once v_j is near v(N) more than ``patience`` positions in a row.

    Near is |v(N) - v_j| <= tolerance · |v(N)|. Who comes after gets 0.
    """
    marginals = dict.fromkeys(order, 0.0)
    final, before, num_near = value(frozenset(order)), value(frozenset()), 0
    for position, player in enumerate(order):
        now = value(frozenset(order[: position + 1]))
        marginals[player] = now - before
        before = now
        num_near = num_near + 1 if abs(final - now) <= tolerance * abs(final) else 0
        if num_near > patience:
            break
    return marginals


def guided_marginals(order: Sequence[int], value: Value, tolerance: float) -> dict[int, float]:
    """Return marginals along one order (GTG): position j is judged only if |v(N) - v_{j-1}| >= tolerance.

    Else v_j = v_{j-1}. Without truncation (tolerance 0) they sum to v(N) - v(∅).
    """
    marginals = {}
    final, before = value(frozenset(order)), value(frozenset())
    for position, player in enumerate(order):
        now = value(frozenset(order[: position + 1])) if abs(final - before) >= tolerance else before
        marginals[player] = now - before
        before = now
    return marginals


def random_orders(players: Sequence[int], rng: np.random.Generator) -> Iterator[list[int]]:
    """Yield random permutations without end."""
    while True:
        yield [players[index] for index in rng.permutation(len(players))]


def guided_orders(players: Sequence[int], rng: np.random.Generator) -> Iterator[list[int]]:
    """Yield permutations without end; every player leads in turn, the rest is random."""
    while True:
        for leader in players:
            others = [player for player in players if player != leader]
            yield [leader, *(others[index] for index in rng.permutation(len(others)))]


def mean_marginals(
    players: Sequence[int],
    orders: Iterator[list[int]],
    marginals: Callable[[list[int]], dict[int, float]],
    *,
    min_orders: int,
    max_orders: int,
    window: int = 10,
    error: float = 0.05,
) -> dict[int, float]:
    """Return the mean over orders of their marginals, until it has settled.

    Settled: over the last ``window`` orders the running means lay within a mean relative distance of ``error`` of where
    they are now. At least ``min_orders``, at most ``max_orders``.
    """
    if not players:
        return {}
    total = np.zeros(len(players))
    history: list[np.ndarray] = []
    for number, order in enumerate(orders, start=1):
        found = marginals(order)
        total += [found[player] for player in players]
        history = [*history, total / number][-window:]
        if number >= max_orders or (number >= min_orders and len(history) == window and _settled(history, error)):
            break
    return dict(zip(players, history[-1].tolist(), strict=True))


def _settled(history: Sequence[np.ndarray], error: float) -> bool:
    last = history[-1]
    return all(float(np.mean(np.abs(means - last) / (np.abs(last) + 1e-12))) <= error for means in history)


def check_nonnegative(part: str, **options: float) -> None:
    """Raise :class:`~fedlight.errors.ConfigError` for an option below 0, or NaN."""
    for name, number in options.items():
        if not number >= 0:
            raise ConfigError(f"{name}={number} of {part} is below 0: use 0 to switch it off, or a number above")


def check_permutations(max_permutations: int) -> None:
    """Raise :class:`~fedlight.errors.ConfigError` unless there is one."""
    if max_permutations < 1:
        raise ConfigError(f"max_permutations={max_permutations} leaves no permutation: use 1 or more")
