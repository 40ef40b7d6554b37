"""Draws docs/images/fleet_axes.png: how a fleet changes over three days, one panel per axis.

python tools/fleet_pictures.py docs/images
"""

import sys
from pathlib import Path

from PIL import Image

from fedlight.core.types import Work
from fedlight.fleet import (
    BackgroundLoad,
    ChangingFleet,
    Daily,
    Drift,
    Drops,
    JoinLeave,
    PartialWork,
    RaspberryJetson,
    SpeedStep,
)
from fedlight.tracking.fleet_changes import draw_changes

DAY_S, HOUR_S, CLIENTS = 86_400.0, 3_600.0, 200


def main() -> None:
    """Draw it."""
    fleet = ChangingFleet(
        RaspberryJetson(),
        availability=[Daily(0.4), JoinLeave(interval_s=12 * HOUR_S)],
        connectivity=Drops(0.1),
        completeness=PartialWork(0.3, low=0.2),
        responsiveness=[
            Drift(interval_s=HOUR_S),
            BackgroundLoad(interval_s=HOUR_S, probability=0.03),
            SpeedStep(at_s=1.5 * DAY_S, factor=4.0, clients=[0]),
        ],
    )
    fleet.setup(CLIENTS, seed=0)
    picture = draw_changes(
        fleet, CLIENTS, 3 * DAY_S, Work(macs=6e12, download_bytes=40_000_000, upload_bytes=40_000_000)
    )
    assert picture is not None
    Image.fromarray(picture).save(Path(sys.argv[1]) / "fleet_axes.png", optimize=True)


if __name__ == "__main__":
    main()
