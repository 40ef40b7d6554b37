import json

import pytest
from synthetic_runs import round_scalars, write_config, write_log, write_run

from fedlight.errors import ConfigError, DataError
from fedlight.report.runs import find_runs


def log(folder):
    write_log(folder, round_scalars([0.5], [1.0]))
    return folder


def names(*folders):
    return [run.name for run in find_runs(folders)]


def test_a_note_says_who_a_run_is(tmp_path):
    write_run(tmp_path, "FedMP, lr .1", 2, [0.5], [1.0], cell={"fleet": "High", "partition": "Shards"})
    (run,) = find_runs([tmp_path])
    assert (run.label, run.seed, dict(run.cell)) == ("FedMP, lr .1", 2, {"fleet": "High", "partition": "Shards"})
    assert run.name == "fleet=High, partition=Shards · FedMP, lr .1 · seed 2"


def test_versions_of_a_noted_run_are_one_run(tmp_path):
    folder = write_run(tmp_path, "FedMP", 0, [0.5], [1.0])
    log(folder / "version_1")
    (run,) = find_runs([tmp_path])
    assert [path.parent.name for path in run.events] == ["version_0", "version_1"]


def test_without_a_note_the_config_says_it(tmp_path):
    log(write_config(tmp_path / "x" / "version_0", "UPFL", seed=4))
    assert names(tmp_path) == ["UPFL · seed 4"]


def test_without_a_config_the_folder_says_it(tmp_path):
    log(tmp_path / "theirs" / "seed_3")
    log(tmp_path / "ours_seed1")
    log(tmp_path / "plain" / "version_0")
    assert sorted(names(tmp_path)) == ["ours · seed 1", "plain · seed 0", "theirs · seed 3"]


def test_equal_labels_are_told_apart_by_their_folders(tmp_path):
    log(write_config(tmp_path / "short" / "version_0", "FedMP"))
    log(write_config(tmp_path / "long" / "version_0", "FedMP"))
    log(write_config(tmp_path / "other" / "version_0", "UPFL"))
    assert names(tmp_path) == ["long · seed 0", "UPFL · seed 0", "short · seed 0"]


def test_a_label_can_be_given(tmp_path):
    log(write_config(tmp_path / "a" / "version_0", "FedMP"))
    log(write_config(tmp_path / "b" / "version_0", "FedMP"))
    assert names(f"old={tmp_path / 'a'}", f"new={tmp_path / 'b'}") == ["old · seed 0", "new · seed 0"]


def test_the_same_folder_twice_is_one_run(tmp_path):
    log(write_config(tmp_path / "a" / "version_0"))
    assert names(tmp_path, tmp_path / "a") == ["SynFL · seed 0"]


def test_runs_on_other_data_or_fleets_are_other_cells(tmp_path):
    log(write_config(tmp_path / "a" / "version_0", max_train_examples=100))
    log(write_config(tmp_path / "b" / "version_0", max_train_examples=None))
    assert names(tmp_path) == ["examples=100 · SynFL · seed 0", "examples=all · SynFL · seed 0"]


def test_cells_are_named_by_the_class_where_that_is_enough(tmp_path):
    shards = {"class_path": "fedlight.data.Shards", "init_args": {"classes_per_client": 2}}
    dirichlet = {"class_path": "fedlight.data.DirichletByClient", "init_args": {"alpha": 0.1}}
    log(write_config(tmp_path / "a" / "version_0"))
    log(write_config(tmp_path / "b" / "version_0", partition=shards))
    assert names(tmp_path) == ["partition=DirichletByClient · SynFL · seed 0", "partition=Shards · SynFL · seed 0"]
    log(write_config(tmp_path / "c" / "version_0", partition=dirichlet))
    assert names(tmp_path)[2] == "partition=DirichletByClient(alpha=0.1) · SynFL · seed 0"


def test_two_runs_with_one_name_are_refused(tmp_path):
    write_run(tmp_path / "a", "FedMP", 0, [0.5], [1.0])
    write_run(tmp_path / "b", "FedMP", 0, [0.5], [1.0])
    with pytest.raises(ConfigError, match="are both FedMP · seed 0; name one of them: LABEL="):
        find_runs([tmp_path])


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no run below .*; give the folder that fedlight fit or compare wrote to"):
        find_runs([tmp_path])
    with pytest.raises(ConfigError, match="there is no folder nowhere"):
        find_runs(["nowhere"])


def test_a_broken_note_is_refused(tmp_path):
    folder = write_run(tmp_path, "FedMP", 0, [0.5], [1.0])
    (folder / "run.json").write_text("{")
    with pytest.raises(DataError, match=r"run\.json is no JSON .*; remove it"):
        find_runs([tmp_path])
    (folder / "run.json").write_text(json.dumps({"label": "again"}))
    assert names(tmp_path) == ["again · seed 0"]
