import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from fedlight.data import (
    CharText,
    DirichletByClient,
    FederatedDataModule,
    MapDataset,
    Npz,
    TensorExamples,
    TorchvisionImages,
)
from fedlight.data.examples import DatasetExamples
from fedlight.errors import ConfigError, DataError

CACHE = Path("~/.cache/fedlight-data").expanduser()


def cached(name: str) -> str:
    path = CACHE / name
    if not path.exists():
        pytest.skip(f"needs {path}: lay the shared data sets out first")
    return str(path)


def everything(examples):
    return examples.batch(torch.arange(len(examples)))


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 5, 4, 3), dtype=np.uint8)


@pytest.fixture
def archive(tmp_path, images) -> str:
    path = tmp_path / "images.npz"
    labels = np.arange(12, dtype=np.uint8) % 3
    np.savez(path, x_train=images[:8], y_train=labels[:8], x_test=images[8:], y_test=labels[8:, None])
    return str(path)


def test_images_of_an_archive_are_normalised_by_the_training_images(archive, images):
    splits = Npz(archive).load()
    scaled = images.transpose(0, 3, 1, 2).astype(np.float64) / 255
    mean = scaled[:8].mean(axis=(0, 2, 3), keepdims=True)
    std = scaled[:8].std(axis=(0, 2, 3), keepdims=True)
    for examples, part in ((splits.train, slice(0, 8)), (splits.test, slice(8, 12))):
        inputs, targets = everything(examples)
        assert inputs.dtype == torch.float32
        assert np.allclose(inputs.numpy(), (scaled[part] - mean) / std, atol=1e-5)
        assert targets.tolist() == [i % 3 for i in range(12)][part]
        assert targets.dtype == torch.int64
    assert splits.train.inputs.dtype == torch.uint8


def test_batches_follow_the_indices(archive):
    train = Npz(archive).load().train
    inputs, targets = train.batch(torch.tensor([5, 2], dtype=torch.int32))
    assert targets.tolist() == [2, 2]
    assert torch.equal(inputs, everything(train)[0][[5, 2]])


def test_float_arrays_are_taken_as_they_are_for_regression(tmp_path):
    path = tmp_path / "table.npz"
    x, y = np.random.default_rng(0).random((6, 2)), np.linspace(0, 1, 6)
    np.savez(path, a=x, b=y)
    splits = Npz(str(path), x_train="a", y_train="b", x_test=None, y_test=None).load()
    inputs, targets = everything(splits.train)
    assert np.allclose(inputs.numpy(), x)
    assert np.allclose(targets.numpy(), y)
    assert (inputs.dtype, targets.dtype) == (torch.float32, torch.float32)
    assert splits.train.labels is None
    assert splits.test is None


def test_a_channel_without_contrast_becomes_zero(tmp_path):
    path = tmp_path / "flat.npz"
    np.savez(path, x_train=np.full((3, 4, 4), 7, dtype=np.uint8), y_train=np.arange(3))
    inputs, _ = everything(Npz(str(path), x_test=None, y_test=None).load().train)
    assert inputs.shape == (3, 1, 4, 4)
    assert inputs.abs().max() < 1e-6


def test_an_archives_own_validation_split_is_read(tmp_path):
    path = tmp_path / "three.npz"
    x, y = np.zeros((3, 2)), np.arange(3)
    np.savez(path, x_train=x, y_train=y, x_val=x[:1], y_val=y[:1])
    assert len(Npz(str(path), x_test=None, y_test=None, x_val="x_val", y_val="y_val").load().val) == 1


def test_a_missing_or_broken_archive_is_one_line_with_the_way_out(tmp_path, archive):
    with pytest.raises(DataError, match=r"can't read .*none\.npz .*No such file or directory\): check dataset\.path"):
        Npz(str(tmp_path / "none.npz")).load()
    broken = tmp_path / "broken.npz"
    broken.write_text("no archive")
    with pytest.raises(DataError, match=r"can't read .*broken\.npz"):
        Npz(str(broken)).load()
    single = tmp_path / "single.npy"
    np.save(single, np.zeros(3))
    with pytest.raises(DataError, match=r"single\.npy holds one array"):
        Npz(str(single)).load()
    with pytest.raises(DataError, match=r"no array 'labels', only x_train, y_train, x_test, y_test"):
        Npz(archive, y_train="labels").load()


def test_unequal_numbers_of_inputs_and_targets_are_refused():
    with pytest.raises(DataError, match="3 inputs but 2 targets"):
        TensorExamples(torch.zeros(3, 1), torch.zeros(2))


def test_mean_and_std_must_fit_the_channels():
    with pytest.raises(DataError, match="give 3 of each"):
        TensorExamples(torch.zeros(2, 3, 4, 4), torch.zeros(2), mean=[0.5], std=[1.0])


class FakeImages:
    """A data set built as torchvision builds them."""

    classes = ("cat", "dog")

    def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
        marker = Path(root) / "fake"
        if download:
            marker.write_text("here")
        if not marker.exists():
            raise RuntimeError("Dataset not found.\nUse download=True")
        self.data = torch.full((4 if train else 2, 3, 3), 8, dtype=torch.uint8)
        self.targets = [0, 1, 0, 1][: len(self.data)]


class FakeSplits:
    def __init__(self, root: str, split: str = "train", download: bool = False) -> None:
        self.data = np.zeros((4 if split == "train" else 2, 3, 2, 2), dtype=np.uint8)
        self.labels = np.zeros(len(self.data), dtype=np.int64)


class Lazy:
    def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
        pass


class Neither:
    def __init__(self, root: str) -> None:
        pass


class Offline:
    def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
        raise OSError("no network")


def here(fake: type) -> str:
    sys.modules["fake_image_sets"] = sys.modules[__name__]
    return f"fake_image_sets.{fake.__name__}"


def test_images_are_downloaded_by_prepare_alone(tmp_path):
    source = TorchvisionImages(here(FakeImages), str(tmp_path))
    with pytest.raises(DataError, match=r"isn't complete under .*\(Dataset not found\.\): set dataset.download: true"):
        source.load()
    source.prepare()
    splits = source.load()
    assert (len(splits.train), len(splits.test)) == (4, 2)
    assert splits.train.inputs.shape == (4, 1, 3, 3)
    assert splits.class_names == ["cat", "dog"]
    assert splits.train.labels.tolist() == [0, 1, 0, 1]


def test_download_can_be_turned_off(tmp_path):
    TorchvisionImages(here(FakeImages), str(tmp_path), download=False).prepare()
    assert not (tmp_path / "fake").exists()


def test_image_sets_with_a_split_argument_and_channels_first_work(tmp_path):
    splits = TorchvisionImages(here(FakeSplits), str(tmp_path)).load()
    assert splits.train.inputs.shape == (4, 3, 2, 2)
    assert len(splits.test) == 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Nothing", r"no data set class 'Nothing': dataset\.name is a class of torchvision\.datasets"),
        ("nowhere.Nothing", "no data set class"),
        ("EMNIST", r"EMNIST doesn't open as EMNIST\(root, split=\.\.\., download=\.\.\.\)"),
        (here(Lazy), r"doesn't hold its images and labels in memory: use fedlight\.data\.MapDataset"),
        (here(Neither), "takes neither `train` nor `split`"),
        (here(Offline), r"isn't complete .*\(no network\)"),
    ],
)
def test_unusable_image_sets_are_refused(tmp_path, name, words):
    with pytest.raises(DataError, match=words):
        TorchvisionImages(name, str(tmp_path)).load()


def test_a_failed_download_says_how_to_go_on(tmp_path):
    with pytest.raises(DataError, match=r"can't download .*\(no network\): check the network, or put the files there"):
        TorchvisionImages(here(Offline), str(tmp_path)).prepare()


class Interrupted:
    def __init__(self, root, train, download):
        (Path(root) / "Interrupted" / "raw").mkdir(parents=True)
        raise OSError("no network")


def test_a_failed_download_leaves_no_folder(tmp_path):
    (tmp_path / "kept").mkdir()
    with pytest.raises(DataError, match="can't download"):
        TorchvisionImages(here(Interrupted), str(tmp_path / "kept")).prepare()
    with pytest.raises(DataError, match="can't download"):
        TorchvisionImages(here(Interrupted), str(tmp_path / "new" / "below")).prepare()
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["kept"]


def test_text_becomes_sequences_and_the_characters_that_follow(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("abcabcabca" + "bcab")
    splits = CharText(str(path), sequence_length=3, test_fraction=4 / 14).load()
    inputs, targets = everything(splits.train)
    assert inputs.tolist() == [[0, 1, 2]] * 3
    assert targets.tolist() == [[1, 2, 0]] * 3
    assert splits.class_names == ["a", "b", "c"]
    assert splits.train.labels is None
    assert [part.tolist() for part in everything(splits.test)] == [[[1, 2, 0]], [[2, 0, 1]]]
    assert CharText(str(path), 3, test_fraction=0).load().test is None


def test_short_or_missing_text_is_refused(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("ab")
    with pytest.raises(DataError, match="has 2 characters, too few"):
        CharText(str(path), 5).load()
    path.write_text("")
    with pytest.raises(DataError, match="has 0 characters"):
        CharText(str(path), 5).load()
    with pytest.raises(DataError, match=r"can't read .*none\.txt"):
        CharText(str(tmp_path / "none.txt")).load()
    with pytest.raises(ConfigError, match="sequence_length=0"):
        CharText(str(path), 0)


class Squares(Dataset):
    """Knows its labels, and gives each example as a dict."""

    classes = ("even", "odd")

    def __init__(self, count: int = 10) -> None:
        self.targets = [i % 2 for i in range(count)]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> dict[str, object]:
        return {"x": torch.tensor([index**2]), "y": self.targets[index]}


def test_any_dataset_is_read_in_its_own_structure():
    splits = MapDataset(Squares(), test=Squares(4), val=Squares(2)).load()
    batch = splits.train.batch(torch.tensor([3, 1]))
    assert batch["x"].tolist() == [[9], [1]]
    assert batch["y"].tolist() == [1, 1]
    assert splits.train.labels.tolist() == [0, 1] * 5
    assert (len(splits.test), len(splits.val)) == (4, 2)
    assert splits.class_names == ["even", "odd"]


@pytest.mark.parametrize(
    ("dataset", "labels"),
    [
        (TensorDataset(torch.zeros(3, 1), torch.tensor([2, 0, 1])), [2, 0, 1]),
        (Subset(Squares(), [1, 2, 5]), [1, 0, 1]),
        (TensorDataset(torch.zeros(3, 1), torch.rand(3)), None),
        (TensorDataset(torch.zeros(3, 1), torch.zeros(3, 2, dtype=torch.int64)), None),
        (TensorDataset(torch.zeros(3, 1), torch.tensor([-1, 0, 1])), None),
    ],
)
def test_labels_are_found_where_they_are_declared(dataset, labels):
    found = DatasetExamples(dataset).labels
    assert labels == (None if found is None else found.tolist())


def test_a_dataset_without_labels_is_refused_by_a_label_partition():
    source = MapDataset(TensorDataset(torch.zeros(9, 1), torch.rand(9)))
    with pytest.raises(DataError, match=r"no class labels: use fedlight.data.IID"):
        FederatedDataModule(source, num_clients=2, partition=DirichletByClient()).setup()


def test_an_iterable_dataset_is_refused():
    class Stream(IterableDataset):
        def __iter__(self):
            yield 1

    with pytest.raises(DataError, match="Stream has no __len__ and no __getitem__: clients need a map-style Dataset"):
        MapDataset(Stream()).load()


def test_fashion_mnist_as_users_have_it():
    root = str(Path(cached("FashionMNIST")).parent)
    data = FederatedDataModule(
        TorchvisionImages("FashionMNIST", root, download=False),
        num_clients=20,
        partition=DirichletByClient(0.5),
        max_train_examples=6000,
    )
    assert data.num_examples.tolist() == [300] * 20
    inputs, _ = next(iter(data.test_dataloader()))
    assert inputs.shape == (512, 1, 28, 28)
    train = data.dataset.load().train
    # The published mean and deviation of Fashion-MNIST, 0.2860 and 0.3530, to their four digits.
    assert np.allclose(train._offset.item(), -0.2860 / 0.3530, atol=1e-3)
    assert np.allclose(train._factor.item(), 1 / (255 * 0.3530), rtol=1e-3)


def test_tiny_shakespeare_has_65_characters():
    path = cached("tinyshakespeare.txt")
    splits = CharText(path, 128).load()
    assert len(splits.class_names) == 65
    inputs, targets = splits.train.batch(torch.tensor([0, 1]))
    assert torch.equal(inputs[1, :1], targets[0, -1:])
    text = "".join(splits.class_names[i] for i in inputs[0].tolist())
    assert text.startswith("First Citizen:\nBefore we proceed")
