"""jobs.csv: one line per job, the same whether or not a run was broken off."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedlight.core.types import Job, Timing, Work
from fedlight.errors import DataError
from fedlight.tracking import JobLog
from fedlight.tracking.jobs import AT_WORK, COLUMNS, DTYPE, in_flight_of, read_jobs, rows_of

DEVICES = ("fast", "medium", "slow").__getitem__


def job(client, dispatched_s, **options):
    return Job(client, 1, 0.5, None, Work(1.0, 1, 1), Timing(1.0, 2.0, 1.0), dispatched_s, **options)


def test_a_line_per_job_with_all_that_happened(record):
    lost = job(1, 5.0, lost_s=6.0, cause="dropped", energy_j=8.0)
    rows = list(rows_of(replace(record(2, rejected=1), lost=[lost]), DEVICES))
    assert rows[0] == (2, 0, "fast", 8.0, 0.0, 1.0, 0.0, 9.0, 0, 0.0, "", 0.0, 1 / 3, 12.0)
    assert rows[1][COLUMNS.index("cause")] == "rejected"
    # a quarter of its four seconds were spent, so a quarter of its energy; it began a version before
    assert rows[3] == (2, 1, "medium", 5.0, 1.0, 2.0, 1.0, 6.0, 1, 0.5, "dropped", 2.0, 0.0, 12.0)


def test_jobs_in_flight_are_rows_too(record):
    rows = in_flight_of(replace(record(2), in_flight=[job(2, 10.0)]), DEVICES)
    assert (rows["event_s"].item(), rows["cause"].item(), rows["device"].item()) == (14.0, AT_WORK, "slow")


def test_the_file_is_read_back(make_trainer, stub, tmp_path):
    make_trainer([JobLog()]).fit(stub())
    jobs = read_jobs(tmp_path / "jobs.csv")
    assert (tmp_path / "jobs.csv").read_text().splitlines()[0] == ",".join(COLUMNS)
    assert jobs["round"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert jobs["event_s"].tolist() == [1.0, 2.0, 4.0, 5.0, 6.0, 8.0, 9.0, 10.0, 12.0]
    assert jobs["device"][:3].tolist() == ["fast", "medium", "slow"]
    assert jobs["weight"][0] == 1 / 3


def test_a_resumed_run_writes_the_file_of_one_that_was_never_broken_off(make_trainer, stub, tmp_path):
    path = tmp_path / "jobs.csv"
    make_trainer([JobLog()], max_epochs=5).fit(stub())
    whole = path.read_bytes()
    path.unlink()
    first = make_trainer([JobLog()], max_epochs=2)
    first.fit(stub())
    first.save_checkpoint(tmp_path / "kept.ckpt")
    make_trainer([JobLog()], max_epochs=4).fit(stub(), ckpt_path=tmp_path / "kept.ckpt", weights_only=True)
    with path.open("a") as file:
        file.write("1")  # the beginning of a line of round 14, say: killed while writing
    make_trainer([JobLog()], max_epochs=5).fit(stub(), ckpt_path=tmp_path / "kept.ckpt", weights_only=True)
    assert path.read_bytes() == whole


def test_a_new_run_in_the_same_folder_begins_a_new_file(make_trainer, stub, tmp_path):
    for _ in range(2):
        make_trainer([JobLog()], max_epochs=1).fit(stub())
    assert len(read_jobs(tmp_path / "jobs.csv")) == 3


def test_of_a_long_file_the_last_rounds_are_read(make_trainer, stub, tmp_path):
    make_trainer([JobLog()], max_epochs=6).fit(stub())
    path = tmp_path / "jobs.csv"
    whole = read_jobs(path)
    tail = read_jobs(path, max_bytes=path.stat().st_size // 2)
    assert 0 < len(tail) < len(whole)
    np.testing.assert_array_equal(tail, whole[-len(tail) :])
    assert len(tail) % 3 == 0  # whole rounds


def test_a_name_with_a_comma_survives(make_trainer, stub, tmp_path):
    class Odd(stub):
        class fleet:
            device = staticmethod(lambda client: 'Pi 4, "8 GB" #1')

    make_trainer([JobLog()], max_epochs=1).fit(Odd())
    assert read_jobs(tmp_path / "jobs.csv")["device"][0] == 'Pi 4, "8 GB" #1'


def test_what_is_no_log_of_jobs_is_refused(tmp_path):
    path = tmp_path / "jobs.csv"
    with pytest.raises(DataError, match=r"can't read the run's jobs from .*give the folder of a run"):
        read_jobs(path)
    path.write_text("time,client\n1,2\n")
    with pytest.raises(DataError, match="begins with 'time,client', not with the columns"):
        read_jobs(path)
    path.write_text(",".join(COLUMNS) + "\n")
    assert read_jobs(path).dtype == DTYPE
    path.write_text(",".join(COLUMNS) + "\n1,2,3\n")
    with pytest.raises(DataError, match="holds a line that is no job"):
        read_jobs(path)


def test_other_processes_write_nothing(make_trainer, stub, tmp_path, monkeypatch):
    monkeypatch.setattr("lightning.pytorch.Trainer.is_global_zero", False)
    log = JobLog()
    make_trainer([log], max_epochs=2).fit(stub())
    assert log.state_dict() == {"num_rounds": 2}
    assert not (tmp_path / "jobs.csv").exists()


def test_the_columns_are_explained():
    text = (Path(__file__).resolve().parents[2] / "docs" / "tags.md").read_text()
    lines = [line[2:].partition(":")[0] for line in text.splitlines() if line.startswith("- ")]
    assert {name for line in lines for name in line.split(", ")} == set(COLUMNS)
