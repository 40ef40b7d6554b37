"""Numbers as people read them."""

from __future__ import annotations

MINUTE_S = 60.0
HOUR_S = 3600.0
DAY_S = 86400.0
THOUSAND = 1000.0


def duration(seconds: float) -> str:
    """Return seconds as ``440 ms``, ``4.2 s``, ``42 s``, ``3 min 5 s``, ``2 h 10 min`` or ``40.0 days``."""
    if seconds < 0.9995:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < MINUTE_S:
        return f"{whole} s"
    if whole < HOUR_S:
        return f"{whole // 60} min {whole % 60} s"
    if whole <= 2 * DAY_S:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    days = whole / DAY_S
    return f"{days:.1f} days" if days < 99.95 else f"{days:,.0f} days"


def quantity(value: float, unit: str = "") -> str:
    """Return a number with a decimal prefix: 1,626,442 is ``1.63 M`` and 12 bytes (unit ``B``) are ``12 B``."""
    for prefix in ("", "k", "M", "G", "T", "P"):
        if abs(value) < 999.5 or prefix == "P":
            break
        value /= THOUSAND
    digits = f"{value:.3g}" if prefix else f"{value:.0f}"
    return f"{digits} {prefix}{unit}".rstrip()


def percent(share: float) -> str:
    """Return a share in [0, 1] as whole percent."""
    return f"{100 * share:.0f} %"


def metric(tag: str, value: float) -> str:
    """Return an accuracy as percent with two decimals, anything else with four."""
    return f"{100 * value:.2f} %" if tag.endswith("accuracy") else f"{value:.4f}"
