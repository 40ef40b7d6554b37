"""The fleet at the start of a fit, and how it changed at its end."""

import io

import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fedlight.core.types import Work
from fedlight.fleet import BackgroundLoad, ChangingFleet, Daily, Drift, Drops, High, PartialWork, RaspberryJetson
from fedlight.tracking import FleetOverview
from fedlight.tracking.fleet_changes import draw_changes
from fedlight.tracking.fleet_table import fleet_cells, fleet_table

WORK = Work(macs=1e9, download_bytes=10**6, upload_bytes=10**6)


def changing(devices=None):
    return ChangingFleet(
        devices or High(),
        Daily(0.4, day_s=50.0),
        Drops(0.3),
        PartialWork(0.5),
        [Drift(interval_s=5.0), BackgroundLoad(interval_s=5.0)],
    )


def test_columns_about_which_nothing_is_known_are_left_out():
    fleet = High(noise=0.0)
    fleet.setup(20, 0)
    assert fleet_cells(fleet.describe()) == [
        ["device", "clients", "GMAC/s", "Mbit/s down/up"],
        ["fast", "7", "20", "20/20"],
        ["medium", "7", "5", "10/10"],
        ["slow", "6", "2", "4/4"],
    ]
    boards = RaspberryJetson()
    boards.setup(4, 0)
    assert fleet_cells(boards.describe())[0][-3:] == ["noise", "J/GMAC", "J/MB"]


def test_the_table_ends_with_what_changes():
    fleet = changing()
    fleet.setup(20, 0)
    console = Console(width=200, file=io.StringIO())
    console.print(fleet_table(fleet.describe(), fleet.changes()), soft_wrap=True)
    text = console.file.getvalue()
    assert "connectivity: Drops(per_job=0.3, per_second=0)" in text
    assert "responsiveness: Drift(interval_s=5, " in text


def test_every_axis_that_there_is_gets_a_panel():
    fleet = changing()
    fleet.setup(12, 0)
    four = draw_changes(fleet, 12, 120.0, WORK)
    one = ChangingFleet(High(), connectivity=Drops(0.2))
    one.setup(12, 0)
    assert four.shape[0] > 2 * draw_changes(one, 12, 120.0, WORK).shape[0]
    steady = ChangingFleet(High())
    steady.setup(12, 0)
    assert draw_changes(steady, 12, 120.0, WORK) is None
    assert draw_changes(fleet, 12, 0.0, WORK) is None


@pytest.mark.parametrize("makes", [High, changing])
def test_a_fit_begins_with_the_table_and_ends_with_the_picture(makes, make_trainer, stub, capsys, tmp_path):
    server = stub()
    server.fleet = makes()
    server.fleet.setup(3, 0)
    trainer = make_trainer([FleetOverview()], max_epochs=3, logger=TensorBoardLogger(tmp_path))
    trainer.fit(server)
    assert capsys.readouterr().out.count("slow") == 1
    pictures = list(tmp_path.rglob("fleet.png"))
    assert len(pictures) == (makes is changing)
    events = EventAccumulator(str(trainer.log_dir)).Reload()
    assert "fleet/text_summary" in events.Tags()["tensors"]
