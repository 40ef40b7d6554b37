"""Fleets that published experiments used, as far as their papers and code say."""

from __future__ import annotations

from typing import Literal, final

from fedlight.errors import ConfigError
from fedlight.fleet.boards import MBIT, board
from fedlight.fleet.device_fleet import DeviceClass, DeviceFleet

_DENSITIES = (1.0, 0.5, 0.2, 0.1, 0.05)
_MIXES = {
    "low": (0.2, 0.2, 0.2, 0.2, 0.2),
    "medium": (0.1, 0.1, 0.2, 0.3, 0.3),
    "high": (0.1, 0.1, 0.1, 0.1, 0.6),
}


@final
class FedGMRLinks(DeviceFleet):
    """Five classes whose links scale with the density that they can train: FedGMR's default setting (2026).

    Densities 1, 0.5, 0.2, 0.1 and 0.05; a device of density d has 20 d Mbit/s down and 5 d up, so all send their own
    submodel in about one time. Shares from full to least: 0.2 each (``low``), 0.1-0.1-0.2-0.3-0.3 (``medium``),
    0.1-0.1-0.1-0.1-0.6 (``high``). All compute alike, on the middle of the ladder of the paper's code. The code doesn't
    give the unit of its links: read as Mbit/s here.

    Args:
        mix: shares of the classes.
        macs_per_s: speed of all, > 0; the ladder of the paper's code has 20e12, 2e12 and 0.2e12.
        noise: standard deviation of the log of a round's time, >= 0.
    """

    def __init__(
        self, mix: Literal["low", "medium", "high"] = "high", macs_per_s: float = 2e12, noise: float = 0.1
    ) -> None:
        if mix not in _MIXES:
            raise ConfigError(f"mix={mix!r} is not one of 'low', 'medium', 'high'")
        super().__init__(
            [
                DeviceClass(f"density_{d:g}", share, macs_per_s, 20 * d * MBIT, 5 * d * MBIT, noise=noise)
                for d, share in zip(_DENSITIES, _MIXES[mix], strict=True)
            ]
        )


@final
class FedGMRTiers(DeviceFleet):
    """The three rungs of FedGMR's ladders, equally likely: 100/10, 10/1 and 1/0.1 Mbit/s with 20, 2 and 0.2 TMAC/s.

    Down is ten times up. A spread of 100 in speed and links; that a fast device has a fast link is ours. Units of the
    links as in :class:`FedGMRLinks`.

    Args:
        noise: standard deviation of the log of a round's time, >= 0.
    """

    def __init__(self, noise: float = 0.1) -> None:
        super().__init__(
            [
                DeviceClass(name, 1, 20e12 * rung, 100 * rung * MBIT, 10 * rung * MBIT, noise=noise)
                for name, rung in (("high", 1.0), ("medium", 0.1), ("low", 0.01))
            ]
        )


@final
class AdaptiveFLBoards(DeviceFleet):
    """Small, medium and large devices as 4 : 3 : 3, the mix of AdaptiveFL and FlexFL (DAC and TCAD 2024).

    Raspberry Pi 4, Jetson Nano and Jetson AGX Xavier stand for the papers' weak, medium and strong devices; their
    speeds are those of :mod:`~fedlight.fleet.boards`. In the papers a small device holds 25 % of the parameters, a
    medium one 50 %, a large one all: told how many those are, the fleet has memories to match, with 5 % to spare for
    buffers. Links: 20 Mbit/s down and 5 up (FedGMR's code).

    Args:
        full_parameters: parameters of the full model, > 0 (``fedlight profile`` tells); None: memory is no limit.
        noise: standard deviation of the log of a round's time, >= 0.
    """

    def __init__(self, full_parameters: int | None = None, noise: float = 0.1) -> None:
        if full_parameters is not None and full_parameters < 1:
            raise ConfigError(f"full_parameters={full_parameters} is no size of a model: give its parameters, or null")

        def memory_bytes(fraction: float) -> float | None:
            # Weights, gradients and momentum, 4 bytes each.
            return None if full_parameters is None else 1.05 * 12 * fraction * full_parameters

        super().__init__(
            [
                board(name, share, noise, memory_bytes=memory_bytes(fraction))
                for name, share, fraction in (
                    ("raspberry_pi_4", 4, 0.25),
                    ("jetson_nano", 3, 0.5),
                    ("jetson_agx_xavier", 3, 1.0),
                )
            ]
        )


@final
class AutoFLPhones(DeviceFleet):
    """30 high-end, 70 mid-range and 100 low-end phones: 153.6, 80 and 52.8 GFLOP/s (AutoFL, MICRO 2021).

    The population and the classes' speeds of the paper, where cloud machines stand for the phones; training is taken to
    reach 30 % of them. Links: the median of MobiPerf's Wi-Fi measurements as FedScale has them, 6.1 Mbit/s, with their
    spread (standard deviation 1.1 of the logarithm), the same both ways.

    Args:
        noise: standard deviation of the log of a round's time, >= 0.
    """

    def __init__(self, noise: float = 0.1) -> None:
        classes = (("high_end", 30, 153.6e9), ("mid_range", 70, 80e9), ("low_end", 100, 52.8e9))
        super().__init__(
            [
                DeviceClass(name, count, 0.3 * peak / 2, 6.1 * MBIT, 6.1 * MBIT, noise=noise, link_spread=1.1)
                for name, count, peak in classes
            ]
        )
