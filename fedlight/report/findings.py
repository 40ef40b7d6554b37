"""What a cell's numbers say, as sentences; nothing is said to differ that isn't marked."""

from __future__ import annotations

import math

from fedlight.report.statistics import MIN_PAIRS, Interval
from fedlight.report.summary import Cell, Variant, Versus
from fedlight.report.tables import in_percent, show, show_target

TESTING = (
    f"A difference from the baseline is marked with * where p < 0.05 in a two-sided paired t-test over seeds: of the "
    "final values for the accuracy, of the logarithms of the times for the speed-up. Within one column the p-values "
    "are corrected by Holm's method over the variants. The t-test is used because Wilcoxon's signed-rank test cannot "
    f"reach 0.05 with fewer than six seeds. With fewer than {MIN_PAIRS} pairs of seeds nothing is tested. A speed-up "
    "is tested over the seeds in which both reached the target. No mark means: not shown to differ; it does not mean "
    "equal."
)


def find(cell: Cell) -> list[str]:
    """Return a cell's findings: the best end, the quickest to each target, and which differences are significant."""
    found = [_best_end(cell)]
    found += [_quickest(cell, index) for index in range(len(cell.targets))]
    found.append(_significant(cell))
    return [text for text in found if text]


def _best_end(cell: Cell) -> str:
    sign = 1 if cell.metric.mode == "max" else -1
    known = [variant for variant in cell.variants if variant.final.num_values]
    if not known:
        return ""
    best = max(known, key=lambda variant: sign * variant.final.mean)
    text = (
        f"after {cell.common_s:.4g} simulated seconds, {best.label} has the best {cell.metric.tag}: "
        f"{_value(cell, best.final)}"
    )
    base = next((variant for variant in known if variant.label == cell.baseline), None)
    if base is None or base is best or best.gain is None:
        return _sentence(text)
    return _sentence(f"{text}; the baseline {base.label} has {_value(cell, base.final)} ({_verdict(best.gain)})")


def _value(cell: Cell, interval: Interval) -> str:
    unit = "\u00a0%" if in_percent(cell.metric) else ""
    half = f" ± {show(cell.metric, interval.half)}" if math.isfinite(interval.half) else ""
    return show(cell.metric, interval.mean) + half + unit


def _verdict(versus: Versus) -> str:
    pairs = versus.interval.num_values
    if versus.p_value is None:
        return f"{pairs} pair{'s' * (pairs != 1)} of seeds, not tested"
    outcome = "significant" if versus.is_significant else "not significant"
    return f"{outcome}, p\u00a0=\u00a0{versus.p_value:.2g}, {pairs} pairs of seeds"


def _quickest(cell: Cell, index: int) -> str:
    target = show_target(cell.metric, cell.targets[index])
    whole = [variant for variant in cell.variants if _all_reach(variant.reached[index])]
    if not whole:
        return _sentence(f"no variant reaches {target} with every seed")
    first = min(whole, key=lambda variant: variant.reached[index].mean)
    text = f"{target} is reached first by {first.label}, after {first.reached[index].mean:.3g} simulated seconds"
    if first.speed_up is not None and first.speed_up[index].interval.num_values:
        versus = first.speed_up[index]
        text += f", {versus.interval.mean:.3g} times as fast as {cell.baseline} ({_verdict(versus)})"
    elif cell.baseline is not None and first.label != cell.baseline:
        text += f"; {cell.baseline} never reaches it"
    never = [variant.label for variant in cell.variants if not variant.reached[index].num_values]
    never = [label for label in never if label != cell.baseline]
    return _sentence(text + (f"; never by {', '.join(never)}" if never else ""))


def _all_reach(interval: Interval) -> bool:
    return interval.num_values > 0 and interval.num_values == interval.num_asked


def _significant(cell: Cell) -> str:
    if cell.baseline is None:
        return _sentence("there is no baseline in this part, so nothing is tested")
    tested = [variant for variant in cell.variants if variant.gain is not None]
    if not tested:
        return ""
    if all(not _tests(variant) for variant in tested):
        return _sentence(
            f"nothing is tested: fewer than {MIN_PAIRS} seeds of any variant can be paired with "
            f"those of {cell.baseline}; the numbers are first figures"
        )
    lines = [f"{what}: {_list(cell, tested, index)}" for index, what in _columns(cell)]
    return _sentence(f"significant differences from {cell.baseline} – " + "; ".join(lines))


def _columns(cell: Cell) -> list[tuple[int | None, str]]:
    times = [(index, f"time to {show_target(cell.metric, target)}") for index, target in enumerate(cell.targets)]
    return [(None, "final value"), *times]


def _list(cell: Cell, tested: list[Variant], index: int | None) -> str:
    marked = [(variant, versus) for variant in tested if (versus := _at(variant, index)) and versus.is_significant]
    return ", ".join(f"{variant.label} (p\u00a0=\u00a0{versus.p_value:.2g})" for variant, versus in marked) or "none"


def _at(variant: Variant, index: int | None) -> Versus | None:
    return variant.gain if index is None else (variant.speed_up or ())[index]


def _tests(variant: Variant) -> list[Versus]:
    return [one for one in (variant.gain, *(variant.speed_up or ())) if one is not None and one.p_value is not None]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
