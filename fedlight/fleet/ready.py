"""Ready fleets, with the source of every number."""

from __future__ import annotations

from typing import final

from fedlight.fleet.boards import BOARDS, MBIT, board
from fedlight.fleet.device_fleet import DeviceClass, DeviceFleet


@final
class Homogeneous(DeviceFleet):
    """Equal devices without noise: waiting then comes from unequal amounts of data and unequal submodels alone.

    Args:
        macs_per_s: speed, MAC/s, > 0.
        bits_per_s: bandwidth in each direction, > 0.
        noise: standard deviation of the log of a round's time, >= 0.
    """

    def __init__(self, macs_per_s: float = 5e9, bits_per_s: float = 10 * MBIT, noise: float = 0.0) -> None:
        super().__init__([DeviceClass("device", 1, macs_per_s, bits_per_s, bits_per_s, noise=noise)])


@final
class High(DeviceFleet):
    """High heterogeneity: 7 of 20 clients at 40 GFLOP/s and 20 Mbit/s, 7 at 10 and 10, 6 at 4 and 4.

    Speeds are effective, 1 MAC = 2 FLOP. Made up for the prototype that fedlight grew from; no measured devices.

    Args:
        noise: standard deviation of the log of a round's time, >= 0.
    """

    def __init__(self, noise: float = 0.1) -> None:
        super().__init__(
            [
                DeviceClass("fast", 7, 20e9, 20 * MBIT, 20 * MBIT, noise=noise),
                DeviceClass("medium", 7, 5e9, 10 * MBIT, 10 * MBIT, noise=noise),
                DeviceClass("slow", 6, 2e9, 4 * MBIT, 4 * MBIT, noise=noise),
            ]
        )


@final
class ThreeTier(DeviceFleet):
    """A quarter of strong, half of middling, a quarter of weak devices: 500, 100, 20 GFLOP/s and 50, 8, 1.5 Mbit/s.

    A synthetic mix found in published federated simulations; speeds taken as effective, links as equal both ways.

    Args:
        noise: standard deviation of the log of a round's time, >= 0.
    """

    def __init__(self, noise: float = 0.1) -> None:
        super().__init__(
            [
                DeviceClass("strong", 0.25, 250e9, 50 * MBIT, 50 * MBIT, noise=noise),
                DeviceClass("middling", 0.5, 50e9, 8 * MBIT, 8 * MBIT, noise=noise),
                DeviceClass("weak", 0.25, 10e9, 1.5 * MBIT, 1.5 * MBIT, noise=noise),
            ]
        )


@final
class JetsonTX2(DeviceFleet):
    """NVIDIA Jetson TX2 boards in four power modes, equally likely, as in FedMP's testbed (ICDE 2022, 30 boards).

    FP32 peak in Max-N mode: 256 cores x 2 FLOP x 1.30 GHz = 666 GFLOP/s, of which training is taken to reach 30 %.
    The other modes lower the GPU's clock to 0.65 (Max-Q) or 0.86 (Max-P) and the processor's speed to 0.6, 0.7 or 1.0
    (nvpmodel, NVIDIA's documentation); whichever is slower is taken to decide. The power budgets are 7.5 W in Max-Q and
    15 W in the others. Links: 20 Mbit/s down and 5 up, the ladder of FedGMR's configs; FedMP's own distance-dependent
    Wi-Fi is not published as numbers.

    Args:
        noise: standard deviation of the log of a round's time, >= 0.
    """

    def __init__(self, noise: float = 0.1) -> None:
        modes = {"max_n": 1.0, "max_q": min(0.65, 0.6), "max_p_all": min(0.86, 0.7), "max_p_arm": min(0.86, 1.0)}
        super().__init__(
            [
                board("jetson_tx2", 1, noise, factor, 7.5 if mode == "max_q" else 15.0, f"tx2_{mode}")
                for mode, factor in modes.items()
            ]
        )


@final
class RaspberryJetson(DeviceFleet):
    """Half Raspberry Pi 4, a quarter Jetson Nano, a quarter Jetson TX2: a spread of 29 in speed.

    Pi 4 (4 x A72 at 1.5 GHz): FP32 peak 4 x 1.5 x 8 = 48 GFLOP/s, of which PyTorch training is taken to reach 7 (about
    15 %). Jetsons: 30 % of the FP32 peak, 128 cores x 2 x 0.92 GHz = 236 GFLOP/s for a Nano, 666 for a TX2. Links:
    20 Mbit/s down and 5 up (FedGMR's configs). The shares are ours.

    Args:
        noise: standard deviation of the log of a round's time, >= 0.
    """

    def __init__(self, noise: float = 0.1) -> None:
        shares = {"raspberry_pi_4": 0.5, "jetson_nano": 0.25, "jetson_tx2": 0.25}
        super().__init__([board(kind, share, noise) for kind, share in shares.items()])


@final
class EdgeBoards(DeviceFleet):
    """Six kinds of boards, equally likely, from a Raspberry Pi 4 to a Jetson AGX Xavier: a spread of 60 in speed.

    Raspberry Pi 4 and 5, Jetson Nano, TX2, Xavier NX and AGX Xavier with the speeds, powers and links of
    :mod:`~fedlight.fleet.boards`. The shares are ours.

    Args:
        noise: standard deviation of the log of a round's time, >= 0.
    """

    def __init__(self, noise: float = 0.1) -> None:
        super().__init__([board(kind, 1, noise) for kind in BOARDS])


@final
class Phones(DeviceFleet):
    """Phones with a speed and a link of their own each, drawn from log-normals fitted to FedScale's device trace.

    Inference takes s ms per example, s ~ LogNormal(median 60, σ 0.6) clipped to [15, 200], and bandwidth is
    LogNormal(median 6.1 Mbit/s, σ 1.1), the same both ways; 26 % of phones are then below 3 Mbit/s, as published. The
    trace doesn't name the model that it timed: we take MobileNetV2's 300 million MACs, so speed = 300e6 / s. Source:
    F. Lai et al., "Oort", OSDI 2021, and "FedScale", ICML 2022: the marginals; the trace itself is not used.

    Args:
        noise: standard deviation of the log of a round's time, >= 0.
    """

    def __init__(self, noise: float = 0.1) -> None:
        macs = 300e6
        super().__init__(
            [
                DeviceClass(
                    "phone",
                    1,
                    macs / 0.060,
                    6.1 * MBIT,
                    6.1 * MBIT,
                    noise=noise,
                    speed_spread=0.6,
                    link_spread=1.1,
                    speed_limits=(macs / 0.200, macs / 0.015),
                )
            ]
        )
