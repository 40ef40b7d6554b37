from __future__ import annotations

import pytest
from tracking.conftest import StubServer

from fedlight.errors import ConfigError
from fedlight.tracking import StopAt


def rounds_of(make_trainer, stop, max_epochs=10, **options):
    trainer = make_trainer([stop], max_epochs=max_epochs, **options)
    trainer.fit(StubServer())
    return trainer.current_epoch


# Every round of the stub takes 4 simulated seconds and raises the accuracy by a tenth, from 0.1 on.
@pytest.mark.parametrize(
    ("stop", "rounds"),
    [
        ({"simulated_s": 7.9}, 2),
        ({"simulated_s": 8.0}, 2),
        ({"simulated_s": 8.1}, 3),
        ({"metric": "val/accuracy", "target": 0.4}, 4),
        ({"metric": "val/accuracy", "target": 0.15, "mode": "min"}, 1),
        ({"metric": "val/accuracy", "target": 0.4, "simulated_s": 4.0}, 1),
        ({"metric": "val/other", "target": 0.4}, 10),
        ({"metric": "val/accuracy"}, 10),
        ({}, 10),
    ],
)
def test_the_first_round_that_reaches_it_is_the_last(make_trainer, stop, rounds):
    assert rounds_of(make_trainer, StopAt(**stop)) == rounds


def test_a_run_that_had_reached_its_end_gets_no_further_round(make_trainer, tmp_path):
    trainer = make_trainer([StopAt(simulated_s=8.0)], max_epochs=10)
    trainer.fit(StubServer())
    trainer.save_checkpoint(tmp_path / "ended.ckpt")
    again = make_trainer([StopAt(simulated_s=8.0)], max_epochs=10)
    again.fit(StubServer(), ckpt_path=tmp_path / "ended.ckpt")
    assert again.global_step == trainer.global_step == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"simulated_s": 0.0}, "simulated_s=0 is no time"), ({"target": 0.5}, "target=0.5 needs the metric")],
)
def test_refusals(arguments, message):
    with pytest.raises(ConfigError, match=message):
        StopAt(**arguments)
