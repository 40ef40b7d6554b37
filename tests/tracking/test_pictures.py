from __future__ import annotations

import numpy as np
import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fedlight.errors import ConfigError
from fedlight.tracking import FleetScalars, JobLog, Pictures
from fedlight.tracking.heatmap import Heatmap
from fedlight.tracking.history import History

TABLES = {"picture/layer_sparsity", "picture/ratio", "picture/contribution", "picture/bandit", "picture/waiting"}
PICTURES = TABLES | {"picture/timeline", "picture/timeline_round", "picture/participation"}


def read_events(logger):
    return EventAccumulator(logger.log_dir, size_guidance={"images": 0, "scalars": 0}).Reload()


def test_tensorboard_gets_scalars_of_clients_and_layers_and_one_picture_each(make_trainer, stub, tmp_path):
    logger = TensorBoardLogger(tmp_path, name="")
    make_trainer([FleetScalars(max_clients=2), JobLog(), Pictures()], logger=logger).fit(stub())
    events = read_events(logger)
    tags = events.Tags()
    assert set(tags["images"]) == PICTURES
    assert {event.value for event in events.Scalars("prune/ratio/1")} == {0.25}
    assert [event.step for event in events.Scalars("prune/layer_sparsity/fc1")] == [0, 1, 2]
    assert events.Scalars("contribution/0")[0].value == 0.5
    assert not {"prune/ratio/2", "contribution/2"} & set(tags["scalars"])
    assert {path.stem for path in tmp_path.glob("version_0/pictures/*.png")} == {
        tag.removeprefix("picture/") for tag in PICTURES
    }


def test_pictures_are_drawn_every_so_many_rounds(make_trainer, stub, tmp_path):
    logger = TensorBoardLogger(tmp_path, name="")
    make_trainer([Pictures(every_n_rounds=2)], max_epochs=4, logger=logger).fit(stub())
    assert [event.step for event in read_events(logger).Images("picture/ratio")] == [1, 3]


def test_a_timeline_of_every_round_has_its_jobs_wherever_the_log_of_jobs_stands(make_trainer, stub, tmp_path):
    drawn = []
    for place in (0, 1):
        logger = TensorBoardLogger(tmp_path, name=f"{place}")
        callbacks = [Pictures(every_n_rounds=1)]
        callbacks.insert(place, JobLog())
        make_trainer(callbacks, max_epochs=2, logger=logger).fit(stub())
        events = read_events(logger)
        assert [event.step for event in events.Images("picture/timeline")] == [0, 1]
        drawn.append([event.encoded_image_string for event in events.Images("picture/timeline_round")])
    assert len(drawn[0]) == 1  # the first round is the run so far
    assert drawn[0] == drawn[1]


def test_a_resumed_run_shows_all_its_rounds(make_trainer, stub, tmp_path):
    first = make_trainer([Pictures(), FleetScalars(1)], max_epochs=2)
    first.fit(stub())
    first.save_checkpoint(tmp_path / "kept.ckpt")
    resumed = Pictures()
    scalars = FleetScalars(1)
    make_trainer([resumed, scalars], max_epochs=3).fit(stub(), ckpt_path=tmp_path / "kept.ckpt", weights_only=True)
    state = resumed.state_dict()
    assert state["ratio"]["rounds"] == [0, 1, 2]
    np.testing.assert_allclose(state["ratio"]["values"], [[0.0] * 3, [0.25] * 3, [0.5] * 3])
    assert scalars.state_dict()["clients"] == [0]


def test_colours_follow_values():
    history = History()
    for round_idx in range(10):
        history.record(round_idx, {"low": 0.0, "high": 1.0} if round_idx < 5 else {"low": 0.0})
    picture = Heatmap("x", "title", "client", "value", (0.0, 1.0)).render(history)
    height, width, channels = picture.shape
    assert channels == 3
    # viridis runs from dark violet to yellow; what is unknown is grey.
    upper, lower = int(height * 0.3), int(height * 0.6)
    left, right = int(width * 0.25), int(width * 0.7)
    violet, yellow, grey = picture[upper, left], picture[lower, left], picture[lower, right]
    assert violet[2] > violet[1]
    assert yellow[0] > 200
    assert yellow[2] < 80
    assert grey.tolist() == [0xE8] * 3


def test_signed_values_are_coloured_around_zero():
    history = History()
    history.record(0, {"a": -0.1, "b": 0.4})
    assert Heatmap("x", "t", "client", "v")._scale(history.matrix()) == (
        pytest.approx(-0.4),
        pytest.approx(0.4),
        "RdBu",
    )


def test_negative_interval_is_refused():
    with pytest.raises(ConfigError, match="every_n_rounds=-1 is negative; 0 draws at the end only"):
        Pictures(every_n_rounds=-1)


def test_drawing_takes_at_most_a_hundredth_of_the_time(make_trainer, stub, tmp_path, monkeypatch):
    clock = {"now_s": 0.0}
    monkeypatch.setattr("fedlight.tracking.pictures.time.perf_counter", lambda: clock["now_s"])
    drawn = []

    def publish(trainer, folder, name, picture, round_idx):
        # Each of the five pictures takes 0.4 s, so the next drawing is due 200 s later.
        clock["now_s"] += 0.4
        drawn.append((name, round_idx))

    monkeypatch.setattr("fedlight.tracking.pictures.publish", publish)
    monkeypatch.setattr(Heatmap, "render", lambda self, history: np.zeros(0))
    monkeypatch.setattr("fedlight.tracking.pictures.draw_waiting", lambda history: np.zeros(0))

    class Slow(stub):
        def training_step(self, batch, batch_idx):
            clock["now_s"] += 49.0
            super().training_step(batch, batch_idx)

    make_trainer([Pictures()], max_epochs=10).fit(Slow())
    # The first is due after 150 s: in round 3, and done at 198 s. 398 s are over in round 8, at 443 s; 9 is the end.
    assert [round_idx for name, round_idx in drawn if name == "ratio"] == [3, 8, 9]


def test_without_a_log_of_jobs_only_the_tables_are_drawn(make_trainer, stub, tmp_path):
    logger = TensorBoardLogger(tmp_path, name="")
    make_trainer([Pictures()], logger=logger).fit(stub())
    assert set(read_events(logger).Tags()["images"]) == TABLES
