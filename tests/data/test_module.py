import jsonargparse
import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from fedlight.core.types import FederatedData
from fedlight.data import (
    CropFlip,
    Digits,
    DirichletByClient,
    FederatedDataModule,
    MapDataset,
    Shards,
    Source,
    Splits,
    TensorExamples,
)
from fedlight.data.client import batch_sizes
from fedlight.errors import ConfigError, DataError


class Numbers(Source):
    """Example i is the number i; the test set counts on from 1000."""

    def __init__(self, count: int = 100, with_val: bool = False) -> None:
        self.count = count
        self.with_val = with_val

    def load(self) -> Splits:
        def numbers(start: int, count: int) -> TensorExamples:
            values = torch.arange(start, start + count)
            return TensorExamples(values.float().unsqueeze(1), values % 5)

        return Splits(numbers(0, self.count), numbers(1000, 7), numbers(2000, 3) if self.with_val else None)


def values(batches) -> list[int]:
    return [int(value) for inputs, _ in batches for value in inputs]


def epoch(data, client: int, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    return list(data.client(client).epoch(torch.Generator().manual_seed(seed)))


def all_of_clients(data) -> list[int]:
    return [value for k in range(data.num_clients) for value in values(epoch(data, k))]


def test_training_examples_are_cut_into_parts_that_do_not_overlap():
    data = FederatedDataModule(Numbers(), num_clients=4, validation_fraction=0.2, server_fraction=0.1)
    held_out = values(data.val_dataloader())
    server = values(data.server().epoch(torch.Generator()))
    clients = all_of_clients(data)
    assert (len(held_out), len(server), len(clients)) == (20, 10, 70)
    assert sorted(held_out + server + clients) == list(range(100))
    assert values(data.test_dataloader()) == list(range(1000, 1007))
    assert data.num_examples.tolist() == [18, 18, 17, 17]
    assert data.num_examples.dtype == np.int64
    assert [data.client(k).num_examples for k in range(4)] == [18, 18, 17, 17]
    assert isinstance(data, FederatedData)


def test_validation_reads_the_sources_own_split_where_there_is_one():
    data = FederatedDataModule(Numbers(with_val=True), num_clients=4)
    assert values(data.val_dataloader()) == [2000, 2001, 2002]
    assert sorted(all_of_clients(data)) == list(range(100))


def test_validation_on_the_test_set_holds_nothing_back():
    data = FederatedDataModule(Numbers(with_val=True), num_clients=4, validate_on="test")
    assert values(data.val_dataloader()) == list(range(1000, 1007))
    assert sorted(all_of_clients(data)) == list(range(100))


def test_without_a_server_share_or_validation_share_both_are_empty():
    data = FederatedDataModule(Numbers(), num_clients=4, validation_fraction=0)
    assert data.server() is None
    assert len(data.val_dataloader()) == 0


def test_the_clients_share_can_be_capped():
    data = FederatedDataModule(Numbers(), num_clients=4, max_train_examples=12)
    assert data.num_examples.tolist() == [3, 3, 3, 3]
    assert len(values(data.val_dataloader())) == 10


def test_the_seed_decides_who_holds_what():
    def first_client(seed: int) -> list[int]:
        return sorted(values(epoch(FederatedDataModule(Numbers(), num_clients=4, seed=seed), 0)))

    assert first_client(1) == first_client(1)
    assert first_client(1) != first_client(2)


def test_an_epoch_reads_each_example_once_in_the_generators_order():
    data = FederatedDataModule(Numbers(), num_clients=4, batch_size=8, validation_fraction=0)
    first, again, other = (values(epoch(data, 1, seed)) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert sorted(first) == sorted(other)
    assert len(set(first)) == 25


@pytest.mark.parametrize(
    ("num_examples", "batch_size", "expected"),
    [
        (20, 10, [10, 10]),
        (22, 10, [10, 10, 2]),
        (21, 10, [10, 11]),
        (11, 10, [11]),
        (1, 10, [1]),
        (3, 1, [1, 1, 1]),
        (10, 10, [10]),
    ],
)
def test_a_last_batch_of_one_is_merged_into_the_one_before(num_examples, batch_size, expected):
    assert batch_sizes(num_examples, batch_size) == expected


def test_batches_follow_the_sizes():
    data = FederatedDataModule(Numbers(21), num_clients=1, batch_size=10, validation_fraction=0)
    assert [len(inputs) for inputs, _ in epoch(data, 0)] == [10, 11]
    assert data.client(0).num_batches == 2


def test_batches_of_one_stay_single():
    data = FederatedDataModule(Numbers(3), num_clients=1, batch_size=1, validation_fraction=0)
    assert [len(inputs) for inputs, _ in epoch(data, 0)] == [1, 1, 1]


def test_label_counts_count_the_clients_own_labels():
    data = FederatedDataModule(Numbers(), num_clients=5, partition=Shards(1), validation_fraction=0)
    counts = torch.stack([data.client(k).label_counts() for k in range(5)])
    assert counts.dtype == torch.int64
    assert counts.sum(0).tolist() == [20] * 5
    for k in range(5):
        labels = torch.cat([targets for _, targets in epoch(data, k)])
        assert counts[k].tolist() == torch.bincount(labels, minlength=5).tolist()


def test_a_client_without_class_labels_has_no_label_counts():
    source = MapDataset(TensorDataset(torch.zeros(10, 2), torch.rand(10)))
    assert FederatedDataModule(source, num_clients=2).client(0).label_counts() is None


def test_a_client_that_is_not_there_is_an_index_error():
    data = FederatedDataModule(Numbers(), num_clients=4)
    for client in (-1, 4):
        with pytest.raises(IndexError, match=f"client {client} of 4"):
            data.client(client)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_clients": 0}, "data.num_clients is 0"),
        ({"num_clients": 4, "batch_size": 0}, "data.batch_size is 0"),
        ({"num_clients": 4, "max_train_examples": 0}, "data.max_train_examples is 0"),
        ({"num_clients": 4, "validation_fraction": 0.6, "server_fraction": 0.4}, "their sum below 1"),
        ({"num_clients": 4, "server_fraction": -0.1}, "at least 0"),
    ],
)
def test_bad_settings_are_refused_at_once(settings, words):
    with pytest.raises(ConfigError, match=words):
        FederatedDataModule(Numbers(), **settings)


def test_more_clients_than_samples_are_refused():
    with pytest.raises(DataError, match="90 examples shared by 200 clients"):
        FederatedDataModule(Numbers(), num_clients=200).setup()


def test_a_source_without_a_test_set_can_not_be_tested():
    data = FederatedDataModule(MapDataset(TensorDataset(torch.zeros(10, 2), torch.zeros(10))), num_clients=2)
    with pytest.raises(DataError, match="MapDataset has no test set"):
        data.test_dataloader()


def test_an_empty_source_is_refused():
    with pytest.raises(DataError, match="Numbers has no training examples"):
        FederatedDataModule(Numbers(0), num_clients=2).setup()


def test_digits_test_split_is_stratified_and_the_same_for_every_seed():
    one, other = (FederatedDataModule(Digits(), num_clients=20, seed=seed) for seed in (0, 1))
    first, again = (torch.cat([x for x, _ in data.test_dataloader()]) for data in (one, other))
    assert torch.equal(first, again)
    labels = torch.cat([y for _, y in one.test_dataloader()])
    assert first.shape == (360, 1, 8, 8)
    train = one.dataset.load().train.batch(torch.arange(1437))[0]
    assert train.mean() == pytest.approx(0, abs=1e-3)
    assert train.std() == pytest.approx(1, abs=1e-3)
    # load_digits holds 174 to 183 images of a digit; a fifth of that is 34.8 to 36.6.
    assert set(torch.bincount(labels).tolist()) <= {34, 35, 36, 37}
    assert one.class_names == [str(digit) for digit in range(10)]
    assert one.num_examples.sum() == 1437 - 144


def test_crop_and_flip_keep_shape_and_only_move_pixels():
    images = torch.rand(6, 2, 5, 4)
    changed = CropFlip(padding=2)(images, torch.Generator().manual_seed(0))
    assert changed.shape == images.shape
    for before, after in zip(images, changed, strict=True):
        moved = after[after != 0]
        assert torch.isin(moved, before).all()
    assert torch.equal(CropFlip(0, flip=0)(images, torch.Generator()), images)
    assert torch.equal(CropFlip(0, flip=1)(images, torch.Generator()), images.flip(3))


def test_a_crop_is_a_window_of_the_padded_image():
    image = torch.arange(1.0, 10).view(1, 1, 3, 3)
    seen = set()
    for seed in range(60):
        changed = CropFlip(1, flip=0)(image, torch.Generator().manual_seed(seed))
        padded = torch.nn.functional.pad(image, (1, 1, 1, 1))
        where = [(r, c) for r in range(3) for c in range(3) if torch.equal(padded[..., r : r + 3, c : c + 3], changed)]
        assert len(where) == 1
        seen.add(where[0])
    assert len(seen) == 9


def test_augmentation_changes_clients_batches_alone_and_by_the_generator():
    settings = {"dataset": Digits(), "num_clients": 40, "server_fraction": 0.1}
    plain = FederatedDataModule(**settings)
    augmented = FederatedDataModule(**settings, augment=CropFlip(2))
    first, again, untouched = (epoch(data, 3, 5)[0][0] for data in (augmented, augmented, plain))
    assert torch.equal(first, again)
    assert not torch.equal(first, untouched)
    ours, theirs = (next(data.server().epoch(torch.Generator().manual_seed(1)))[0] for data in (plain, augmented))
    assert torch.equal(ours, theirs)


def test_augmentation_needs_a_batch_whose_first_tensor_is_the_input():
    class Pairs(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> dict[str, int]:
            return {"x": index}

    data = FederatedDataModule(MapDataset(Pairs()), num_clients=1, augment=CropFlip())
    with pytest.raises(DataError, match="a batch is a dict"):
        epoch(data, 0)


def test_a_config_builds_it():
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(FederatedDataModule, "data")
    config = parser.parse_object(
        {
            "data": {
                "dataset": {"class_path": "fedlight.data.Digits"},
                "num_clients": 10,
                "partition": {"class_path": "fedlight.data.DirichletByClient", "init_args": {"alpha": 0.1}},
                "augment": {"class_path": "fedlight.data.CropFlip"},
            }
        }
    )
    data = parser.instantiate(config).data
    assert isinstance(data.partition, DirichletByClient)
    assert data.partition.alpha == 0.1
    assert len(data.num_examples) == 10


class Counter(pl.LightningModule):
    """Counts what a Trainer shows it."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[str] = []

    def training_step(self, batch: int, batch_idx: int) -> None:
        self.seen.append(f"train {batch}")

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.seen.append(f"val {len(batch[0])}")

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.seen.append(f"test {len(batch[0])}")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def trainer(tmp_path) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )


def test_one_epoch_of_a_trainer_is_one_item_and_validation_reads_all_batches(tmp_path):
    module = Counter()
    data = FederatedDataModule(Numbers(), num_clients=4, eval_batch_size=6)
    loop = trainer(tmp_path)
    loop.fit(module, datamodule=data)
    assert module.seen == ["train 0", "val 6", "val 4"] * 2
    module.seen.clear()
    loop.test(module, datamodule=data, verbose=False)
    assert module.seen == ["test 6", "test 1"]


def test_a_trainer_runs_without_validation_examples(tmp_path):
    module = Counter()
    data = FederatedDataModule(Numbers(), num_clients=4, validation_fraction=0)
    with pytest.warns(UserWarning, match="Total length of `EvaluationBatches` across ranks is zero"):
        trainer(tmp_path).fit(module, datamodule=data)
    assert module.seen == ["train 0", "train 0"]
