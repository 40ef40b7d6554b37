"""Single-board computers: what they compute, what they draw, and how they are linked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fedlight.fleet.device_fleet import DeviceClass

MBIT = 1e6
"""Bits per second of a 1 Mbit/s link."""

GPU_UTILISATION = 0.3
"""Share of a Jetson's FP32 peak that training reaches; our assumption: 200 of a TX2's 666 GFLOP/s."""

CPU_UTILISATION = 7 / 48
"""Share of a Raspberry Pi's FP32 peak that PyTorch training is taken to reach: 7 of a Pi 4's 48 GFLOP/s."""

WIFI_DOWN_J_PER_BYTE = 8 * 0.13701e-6
"""Energy of receiving a byte by Wi-Fi: 137 mW per Mbit/s (Huang et al. 2012, MobiSys, table 4), without the radio's
base power."""

WIFI_UP_J_PER_BYTE = 8 * 0.28317e-6
"""Likewise of sending one: 283 mW per Mbit/s."""


@dataclass(frozen=True)
class Board:
    """A kind of single-board computer.

    Attributes:
        flop_per_s: FP32 peak.
        utilisation: share of it that training reaches.
        watts: power while it trains.
    """

    flop_per_s: float
    utilisation: float
    watts: float


BOARDS: Mapping[str, Board] = {
    # 4 x A72 x 8 FLOP x 1.5 GHz; 6.4 W with all cores loaded (measured by many, e.g. pidramble.com).
    "raspberry_pi_4": Board(48e9, CPU_UTILISATION, 6.4),
    # 4 x A76 x 16 FLOP x 2.4 GHz; about 9 W with all cores loaded.
    "raspberry_pi_5": Board(153.6e9, CPU_UTILISATION, 9.0),
    # Jetsons: CUDA cores x 2 FLOP x clock; watts are the budget of the power mode (nvpmodel).
    "jetson_nano": Board(236e9, GPU_UTILISATION, 10.0),
    "jetson_tx2": Board(666e9, GPU_UTILISATION, 15.0),
    "jetson_xavier_nx": Board(845e9, GPU_UTILISATION, 15.0),
    "jetson_agx_xavier": Board(1410e9, GPU_UTILISATION, 30.0),
}
"""Kinds of boards by name: peaks from cores and clocks."""


def board(
    kind: str,
    share: float,
    noise: float,
    speed: float = 1.0,
    watts: float | None = None,
    name: str | None = None,
    memory_bytes: float | None = None,
) -> DeviceClass:
    """Return a device class of boards with 20 Mbit/s down and 5 up (FedGMR's code) over Wi-Fi.

    Joules per MAC = watts / (MAC/s).

    Args:
        kind: one of :data:`BOARDS`.
        share: of the fleet.
        noise: standard deviation of the log of a round's time.
        speed: factor on its speed, for a power mode.
        watts: power while it trains in that mode; None: the board's.
        name: of the class; None: the kind.
        memory_bytes: for training; None: no limit.
    """
    made = BOARDS[kind]
    macs_per_s = speed * made.utilisation * made.flop_per_s / 2
    return DeviceClass(
        name or kind,
        share,
        macs_per_s,
        20 * MBIT,
        5 * MBIT,
        noise=noise,
        memory_bytes=memory_bytes,
        joules_per_mac=(made.watts if watts is None else watts) / macs_per_s,
        joules_per_byte_down=WIFI_DOWN_J_PER_BYTE,
        joules_per_byte_up=WIFI_UP_J_PER_BYTE,
    )
