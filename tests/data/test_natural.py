"""Clients as the data have them, copies of clients, and other people's partitioners."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from plays import SCENE
from torch.utils.data import Subset, TensorDataset

from fedlight.data import (
    ByColumn,
    DirichletByClient,
    DuplicatedClients,
    FederatedDataModule,
    FlowerPartition,
    MapDataset,
    Npz,
    Partition,
    Speeches,
    TensorExamples,
)
from fedlight.data.partition import Assignment
from fedlight.errors import ConfigError, DataError

WRITERS = np.array(["ann", "bob", "cy", "dee"])


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def written(*amounts: int) -> np.ndarray:
    return rng().permutation(np.repeat(WRITERS[: len(amounts)], amounts))


def test_every_client_is_one_writer():
    groups = written(3, 5, 2)
    assignment = ByColumn("writer").assign(groups, 10, 3, rng())
    assert [set(groups[assignment.of(k)]) for k in range(3)] == [{name} for name in assignment.names]
    assert sorted(assignment.order) == list(range(10))


def test_writers_that_are_left_over_are_dealt_out_or_dropped():
    groups = written(3, 5, 2, 4)
    merged = ByColumn("writer").assign(groups, 14, 2, rng())
    assert sorted(merged.order) == list(range(14))
    assert [len(set(groups[merged.of(k)])) for k in range(2)] == [2, 2]
    assert all(name.endswith(" + 1 more") for name in merged.names)
    dropped = ByColumn("writer", rest="drop").assign(groups, 14, 2, rng())
    assert [set(groups[dropped.of(k)]) for k in range(2)] == [{name} for name in dropped.names]
    assert dropped.sizes.sum() < 14


def test_writers_of_little_are_not_clients():
    assignment = ByColumn("writer", min_samples=3, rest="drop").assign(written(3, 5, 2, 4), 14, 3, rng())
    assert sorted(assignment.names) == ["ann", "bob", "dee"]
    merged = ByColumn("writer", min_samples=3).assign(written(3, 5, 2, 4), 14, 3, rng())
    assert sum(merged.sizes) == 14
    assert merged.sizes.min() >= 3


def test_more_clients_than_writers_are_refused():
    with pytest.raises(DataError, match=r"num_clients is 4, but column 'writer' has 3 values, .* to at most 3$"):
        ByColumn("writer").assign(written(3, 5, 2), 10, 4, rng())
    with pytest.raises(DataError, match=r"2 values with at least 3 examples, .* at most 2, or lower min_samples"):
        ByColumn("writer", 3).assign(written(3, 5, 2), 10, 3, rng())


def test_columns_of_archives_and_datasets_are_found(tmp_path):
    path = tmp_path / "w.npz"
    np.savez(path, x_train=np.zeros((6, 2)), y_train=np.arange(6) % 2, who=np.repeat(WRITERS[:3], 2))
    source = Npz(str(path), x_test=None, y_test=None, columns=["who"])
    data = FederatedDataModule(source, 3, ByColumn("who"), validation_fraction=0)
    assert data.num_examples.tolist() == [2, 2, 2]
    assert sorted(data.statistics().client_names) == ["ann", "bob", "cy"]
    with pytest.raises(DataError, match="no array 'whom', only x_train, y_train, who"):
        Npz(str(path), x_test=None, y_test=None, columns=["whom"]).load()

    dataset = TensorDataset(torch.zeros(6, 1), torch.arange(6))
    dataset.subject = [1, 1, 2, 2, 3, 3]
    examples = MapDataset(Subset(dataset, [0, 2, 3])).load().train
    assert examples.column("subject").tolist() == [1, 2, 2]
    with pytest.raises(DataError, match="has no column 'writer': natural partitions need an attribute"):
        examples.column("writer")


def test_a_column_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(DataError, match=r"no column 'speaker' \(its columns are role\)"):
        scene(ByColumn("speaker"))
    with pytest.raises(DataError, match=r"no column 'x' \(it has none\)"):
        TensorExamples(torch.zeros(1, 1), torch.zeros(1)).column("x")
    with pytest.raises(DataError, match=r"column 'x' has shape \(2,\): it needs one value for each of the 1 examples"):
        TensorExamples(torch.zeros(1, 1), torch.zeros(1), columns={"x": np.arange(2)})


@pytest.fixture
def play(tmp_path) -> str:
    path = tmp_path / "play.txt"
    path.write_text(SCENE)
    return str(path)


def scene(partition: Partition, num_clients: int = 3) -> FederatedDataModule:
    from pathlib import Path
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        path = Path(folder) / "play.txt"
        path.write_text(SCENE)
        data = FederatedDataModule(Speeches(str(path), 20), num_clients, partition, validation_fraction=0)
        data.setup()
    return data


def test_roles_speak_their_own_words(play):
    data = scene(ByColumn("role"))
    statistics = data.statistics()
    assert sorted(statistics.client_names) == ["FIRST FISHER", "MILLER", "SECOND FISHER"]  # the child says too little
    assert statistics.counts is None
    alphabet = data.class_names
    assert alphabet == sorted(set(SCENE))
    for client, name in enumerate(statistics.client_names):
        for inputs, targets in data.client(client).in_order():
            assert inputs.shape[1] == targets.shape[1] == 20
            assert torch.equal(inputs[:, 1:], targets[:, :-1])
            for sequence in inputs.tolist():
                words = "".join(alphabet[token] for token in sequence)
                before = SCENE[: SCENE.index(words)] if words in SCENE else None
                # Words that lie in one speech follow their speaker's name.
                assert before is None or name == before.rstrip().split("\n\n")[-1].split(":")[0]


def test_each_role_is_tested_on_the_end_of_what_it_says(play):
    splits = Speeches(play, 20, test_fraction=0.2).load()
    assert set(splits.test.column("role")) == {"FIRST FISHER", "MILLER", "SECOND FISHER"}
    first = splits.train.column("role") == "FIRST FISHER"
    # 228 characters: "The nets ... rough.", of which 11 sequences of 20 with one to follow; 2 of them for the test.
    words = sum(len(speech.partition(":\n")[2]) for speech in SCENE.split("\n\n") if speech.startswith("FIRST")) + 1
    num_sequences = (words - 1) // 20
    assert first.sum() == num_sequences - round(0.2 * num_sequences)


def test_a_text_without_roles_is_refused(tmp_path, play):
    prose = tmp_path / "prose.txt"
    prose.write_text("No one speaks.\n\nAt all.\n")
    with pytest.raises(DataError, match="has no line 'NAME:' after an empty line"):
        Speeches(str(prose)).load()
    with pytest.raises(DataError, match=r"no role in .* says 1001 characters: lower sequence_length"):
        Speeches(play, 1000).load()
    with pytest.raises(ConfigError, match=r"Speeches\(sequence_length=0"):
        Speeches(play, 0)


def test_copies_hold_what_others_hold_and_no_example_is_lost():
    labels = np.arange(100) % 5
    assignment = DuplicatedClients(0.3, DirichletByClient(0.5)).assign(labels, 100, 10, rng())
    copies = np.flatnonzero(assignment.copy_of != np.arange(10))
    assert len(copies) == 3
    for client in range(10):
        assert np.array_equal(assignment.of(client), assignment.of(assignment.copy_of[client]))
    assert not set(assignment.copy_of) & set(copies)
    originals = np.setdiff1d(np.arange(10), copies)
    assert sorted(np.concatenate([assignment.of(k) for k in originals])) == list(range(100))


def test_copies_of_writers_keep_their_names():
    rule = DuplicatedClients(0.5, ByColumn("writer"))
    assert rule.column == "writer"
    assignment = rule.assign(written(3, 5), 8, 4, rng())
    assert sorted(set(assignment.names)) == ["ann", "bob"]
    assert len(assignment.names) == 4


def test_one_client_stays_an_original():
    assert DuplicatedClients(0.99).assign(None, 10, 2, rng()).sizes.tolist() == [10, 10]
    for share in (1.0, -0.1):
        with pytest.raises(ConfigError, match=f"share is {share}"):
            DuplicatedClients(share)


class Selfish(Partition):
    """Gives everything to the first client."""

    def __init__(self, num_made: int) -> None:
        self.num_made = num_made

    def assign(self, labels, num_examples, num_clients, rng):
        offsets = np.full(self.num_made + 1, num_examples)
        offsets[0] = 0
        return Assignment(np.arange(num_examples, dtype=np.int32), offsets)


def test_a_partition_of_the_users_own_that_starves_a_client_is_refused():
    with pytest.raises(DataError, match=r"Selfish leaves 2 of 3 clients without examples, the first is client 1"):
        scene(Selfish(3))
    with pytest.raises(DataError, match=r"Selfish made 2 clients, but data.num_clients is 3"):
        scene(Selfish(2))


class Interleaved:
    """Built as flwr-datasets builds its partitioners: client k holds examples k, k + N, ..."""

    def __init__(self, num_partitions: int, partition_by: str, seed: int = 42, step: int = 1) -> None:
        if step < 1:
            raise ValueError("step is too small.\nFurther words.")
        self.num_partitions = num_partitions
        self.partition_by = partition_by

    def load_partition(self, partition_id: int) -> dict[str, list[int]]:
        assert len(self.dataset[self.partition_by]) == len(self.dataset["position"])
        return {"position": self.dataset["position"][partition_id :: self.num_partitions].tolist()}


@pytest.fixture
def _flower(monkeypatch):
    partitioner = SimpleNamespace(Partitioner=Interleaved, Interleaved=Interleaved)
    package = SimpleNamespace(partitioner=partitioner)
    monkeypatch.setitem(sys.modules, "flwr_datasets", package)
    monkeypatch.setitem(sys.modules, "flwr_datasets.partitioner", partitioner)
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(Dataset=SimpleNamespace(from_dict=dict)))


@pytest.mark.usefixtures("_flower")
def test_a_partitioner_by_name_gets_clients_labels_and_seed():
    assignment = FlowerPartition("Interleaved").assign(np.zeros(7, dtype=int), 7, 3, rng())
    assert assignment.sizes.tolist() == [3, 2, 2]
    assert assignment.of(1).tolist() == [1, 4]
    natural = FlowerPartition("Interleaved", {"partition_by": "writer"})
    assert natural.column == "writer"
    assert natural.assign(written(3, 5), 8, 2, rng()).sizes.tolist() == [4, 4]


@pytest.mark.usefixtures("_flower")
def test_what_a_partitioner_refuses_is_one_line():
    with pytest.raises(DataError, match=r"refuses \(step is too small.\): change data.partition.arguments"):
        FlowerPartition("Interleaved", {"step": 0}).assign(np.zeros(7, dtype=int), 7, 3, rng())
    with pytest.raises(DataError, match=r"refuses \(it makes 2 partitions, but there are 3 clients\)"):
        FlowerPartition("Interleaved", {"num_partitions": 2}).assign(np.zeros(7, dtype=int), 7, 3, rng())
    with pytest.raises(DataError, match=r"no class labels: name a column in arguments.partition_by"):
        FlowerPartition("Interleaved").assign(None, 7, 3, rng())
    with pytest.raises(ConfigError, match=r"no usable class 'Diagonal': data.partition.name is one of Interleaved"):
        FlowerPartition("Diagonal").assign(None, 7, 3, rng())


def test_without_the_package_a_partitioner_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "flwr_datasets.partitioner", None)
    with pytest.raises(ConfigError, match=r"run pip install flwr-datasets, or use a partition of fedlight.data"):
        FlowerPartition("IidPartitioner").assign(None, 4, 2, rng())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("IidPartitioner", {}),
        ("DirichletPartitioner", {"alpha": 0.5}),
        ("PathologicalPartitioner", {"num_classes_per_partition": 2}),
        ("LinearPartitioner", {}),
        ("NaturalIdPartitioner", {"partition_by": "writer"}),
    ],
)
def test_the_real_partitioners(name, arguments):
    pytest.importorskip("flwr_datasets", reason="needs the package flwr-datasets")
    rule = FlowerPartition(name, arguments)
    groups = np.arange(400) % 8
    groups = groups if rule.column is None else np.array([f"w{group}" for group in groups])
    assignment = rule.assign(groups, 400, 8, rng())
    assert len(assignment.sizes) == 8
    # Some of them leave examples out: classes that no client drew.
    assert len(set(assignment.order)) == len(assignment.order) == assignment.sizes.sum()
    assert assignment.sizes.min() >= 1
