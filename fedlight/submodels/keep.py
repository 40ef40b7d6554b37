"""Which units stay: exact counts per group, and the units with the highest scores that fill them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedlight.errors import ConfigError, DataError
from fedlight.submodels.structure import Group

Ratio = float | Sequence[float] | npt.NDArray[np.float64]
"""One pruning ratio for all groups, or one per group."""

_DECIMALS = 6  # 10 * (1 - 0.9) is 0.9999999999999998: targets are cleaned of float noise before they are rounded


def choose(
    groups: Sequence[Group],
    scores: Tensor,
    ratio: Ratio,
    *,
    scope: Literal["layer", "global"] = "layer",
    round_to: int = 8,
    min_units: int = 1,
) -> Tensor:
    """Choose the units to keep: in each group those with the highest scores, a tie going to the lower index.

    ``layer``: each group keeps the count of :func:`kept_counts`. ``global``: every group keeps its best ``min_units``
    (one per partition at least), the best of all other units fill up to ``round(num_units * (1 - ratio))`` in total,
    and then each group's count is rounded by the rule of :func:`kept_counts`, except that a group which the threshold
    leaves full stays full. With ``round_to=1`` and no partitions the total is exact.

    In both scopes the choice is nested: a higher ratio keeps a subset of what a lower one keeps.

    Args:
        groups: groups that own the units ``0 .. num_units - 1`` in order.
        scores: float[num_units], higher = keep; comparable across groups if ``scope`` is ``global``.
        ratio: fraction removed, in [0, 1); in ``layer`` scope also one per group.
        scope: where units compete.
        round_to: counts are multiples of this where a group is large enough; 1 for exact counts.
        min_units: units that every group keeps at least (all units of a smaller group).

    Returns:
        bool[num_units] on the CPU.

    Raises:
        ConfigError: a ratio, ``scope``, ``round_to`` or ``min_units`` out of range.
        DataError: scores of another length, or NaN.
    """
    check_counts(round_to, min_units)
    sizes = _sizes(groups)
    values = _checked_scores(groups, scores, int(sizes.sum()))
    segments, partitions = _segments(groups), np.array([group.partitions for group in groups], dtype=np.int64)
    by_segment = np.lexsort((-values, segments))  # stable: equal scores stay in index order
    first = np.concatenate([[0], np.cumsum(np.bincount(segments))[:-1]]) if len(values) else np.zeros(0, np.int64)
    rank = np.empty(len(values), dtype=np.int64)
    rank[by_segment] = np.arange(len(values)) - first[segments[by_segment]]

    if scope == "layer":
        counts = kept_counts(groups, ratio, round_to, min_units)
    elif scope == "global":
        total = _global_total(ratio, len(values))
        counts = _global_counts(groups, values, rank, segments, total, _floors(groups, min_units))
        full = counts == sizes
        counts = np.where(full, sizes, _round(groups, counts.astype(np.float64), round_to, min_units))
    else:
        raise ConfigError(f"scope={scope!r} is not a pruning scope: use 'layer' or 'global'")
    return torch.from_numpy(rank < np.repeat(counts // partitions, partitions)[segments])


def kept_counts(groups: Sequence[Group], ratio: Ratio, round_to: int = 8, min_units: int = 1) -> npt.NDArray[np.int64]:
    """Count the units that each group keeps at a ratio: ``k = max(min_units, round(size * (1 - ratio) / m) * m)``.

    ``m`` is ``round_to``, and halves go to the even multiple (as in Python's ``round``). Where that gives 0 or the
    whole group at a ratio above 0, ``k`` is instead the nearest whole number to ``size * (1 - ratio)``, halves going
    down: so a group is never emptied, and it stays full only at ratio 0, by ``min_units``, or when less than half a
    unit would go. A group with ``p`` partitions keeps a multiple of ``p``: there ``m`` is the least common multiple
    of ``round_to`` and ``p``, "nearest" means the nearest multiple of ``p``, and each partition keeps one at least.
    Heads aren't rounded to ``round_to`` (``m = p``): each of them is already ``head_dim`` channels wide.

    Args:
        groups: the groups of a plan.
        ratio: fraction removed in [0, 1), for all groups or one per group.
        round_to: units; at least 1.
        min_units: units; at least 1.

    Returns:
        int64[num_groups].

    Raises:
        ConfigError: an argument out of range, or as many ratios as there are no groups.
    """
    check_counts(round_to, min_units)
    ratios = _checked_ratio(ratio, len(groups))
    sizes = _sizes(groups)
    counts = _round(groups, sizes * (1.0 - ratios), round_to, min_units)
    return np.where(ratios == 0.0, sizes, counts)


def check_counts(round_to: int, min_units: int) -> None:
    """Raise ConfigError unless counts can be multiples of ``round_to`` and at least ``min_units``: both >= 1."""
    if round_to < 1:
        raise ConfigError(f"round_to={round_to} is not a multiple to round to: use 1 for exact counts, or 8")
    if min_units < 1:
        raise ConfigError(f"min_units={min_units} would let a group be emptied: use 1 or more")


def _round(
    groups: Sequence[Group], target: npt.NDArray[np.float64], round_to: int, min_units: int
) -> npt.NDArray[np.int64]:
    sizes = _sizes(groups)
    parts = np.array([group.partitions for group in groups], dtype=np.int64)
    steps = np.array(
        [group.partitions if group.kind == "heads" else math.lcm(round_to, group.partitions) for group in groups],
        dtype=np.int64,
    )
    target = np.round(target, _DECIMALS)
    counts = np.rint(target / steps).astype(np.int64) * steps
    nearest = np.ceil(np.round(target / parts - 0.5, _DECIMALS)).astype(np.int64) * parts
    counts = np.where((counts == 0) | (counts >= sizes), nearest, counts)
    bounded: npt.NDArray[np.int64] = np.minimum(np.maximum(counts, _floors(groups, min_units)), sizes)
    return bounded


def _floors(groups: Sequence[Group], min_units: int) -> npt.NDArray[np.int64]:
    floors = [min(group.size, -(-min_units // group.partitions) * group.partitions) for group in groups]
    return np.array(floors, dtype=np.int64)


def _global_total(ratio: Ratio, num_units: int) -> int:
    if np.ndim(ratio) != 0:
        raise ConfigError("scope='global' takes one ratio for all groups: use scope='layer' for one per group")
    return int(np.rint(np.round(num_units * (1.0 - _checked_ratio(ratio, 1)[0]), _DECIMALS)))


def _global_counts(
    groups: Sequence[Group],
    values: npt.NDArray[np.float64],
    rank: npt.NDArray[np.int64],
    segments: npt.NDArray[np.int64],
    total: int,
    floors: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    parts = np.array([group.partitions for group in groups], dtype=np.int64)
    kept = rank < np.repeat(floors // parts, parts)[segments]
    order = np.argsort(-values, kind="stable")
    others = order[~kept[order]]
    kept[others[: max(0, total - int(kept.sum()))]] = True
    return np.array([kept[group.units].sum() for group in groups], dtype=np.int64)


def _sizes(groups: Sequence[Group]) -> npt.NDArray[np.int64]:
    return np.array([group.size for group in groups], dtype=np.int64)


def _segments(groups: Sequence[Group]) -> npt.NDArray[np.int64]:
    """Number the partitions of all groups in a row, and give every unit the number of its own."""
    lengths = [group.size // group.partitions for group in groups for _ in range(group.partitions)]
    return np.repeat(np.arange(len(lengths)), lengths)


def _checked_ratio(ratio: Ratio, num_groups: int) -> npt.NDArray[np.float64]:
    ratios = np.asarray(ratio, dtype=np.float64)
    if ratios.ndim > 1 or (ratios.ndim == 1 and len(ratios) != num_groups):
        raise ConfigError(f"{ratios.size} ratios for {num_groups} groups: pass one ratio, or one per group")
    if not np.all((ratios >= 0.0) & (ratios < 1.0)):
        wrong = ratios[~((ratios >= 0.0) & (ratios < 1.0))].flat[0]
        raise ConfigError(f"pruning ratio {wrong} is outside [0, 1): it is the fraction removed, 0 keeps everything")
    return np.broadcast_to(ratios, (num_groups,))


def _checked_scores(groups: Sequence[Group], scores: Tensor, num_units: int) -> npt.NDArray[np.float64]:
    if scores.shape != (num_units,):
        raise DataError(f"scores have shape {tuple(scores.shape)}, but the plan has {num_units} units: one score each")
    values: npt.NDArray[np.float64] = scores.detach().to("cpu", torch.float64).numpy()
    if np.isnan(values).any():
        unit = int(np.isnan(values).argmax())
        name = next(group.name for group in groups if unit < group.start + group.size)
        raise DataError(f"score of unit {unit} (group {name!r}) is NaN: check the weights or statistics it came from")
    return values
