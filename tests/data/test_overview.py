"""Who holds what, in numbers, as a picture and as a file."""

import csv

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from scipy.spatial.distance import jensenshannon
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fedlight.data import (
    DirichletByClient,
    DuplicatedClients,
    FederatedDataModule,
    LabelNoise,
    PartitionStatistics,
    Source,
    Splits,
    TensorExamples,
)
from fedlight.data.overview import PartitionOverview, overview, write_clients
from fedlight.data.picture import draw_partition


class Numbers(Source):
    """100 examples of five classes."""

    def load(self) -> Splits:
        return Splits(TensorExamples(torch.zeros(100, 1), torch.arange(100) % 5))


class Idle(pl.LightningModule):
    """Trains nothing, but has what a Trainer asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch, batch_idx) -> None:
        pass

    def validation_step(self, batch, batch_idx) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def trainer(folder, **settings) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        limit_val_batches=0,
        log_every_n_steps=1,
        callbacks=[PartitionOverview()],
        **settings,
    )


def statistics(*counts: list[int], **further) -> PartitionStatistics:
    table = np.array(counts)
    return PartitionStatistics(table.sum(axis=1), table, **further)


def test_the_distance_of_one_class_of_two_is_by_hand():
    one = statistics([4, 0], [0, 4])
    # m = (3/4, 1/4): H(m) = .8113 bits, H(p) = 1, H(q) = 0.
    assert one.js_distance == pytest.approx(np.sqrt(0.811278 - 0.5), abs=1e-6)
    assert one.effective_classes == pytest.approx([1, 1])
    assert one.whole.tolist() == [0.5, 0.5]


def test_the_same_mix_has_no_distance_and_no_common_class_the_largest():
    even = statistics([1, 2, 3], [10, 20, 30])
    assert even.js_distance == pytest.approx([0, 0], abs=1e-7)
    apart = statistics([1] + [0] * 999, *[[0] + [1] * 999] * 99)
    assert 0.95 < apart.js_distance[0] <= 1


def test_distances_are_those_of_scipy():
    table = np.random.default_rng(0).integers(0, 20, (30, 7)) + np.eye(30, 7, dtype=int)
    one = statistics(*table.tolist())
    expected = jensenshannon(table.T / table.sum(axis=1), one.whole[:, None], base=2)
    assert one.js_distance == pytest.approx(expected, abs=1e-9)


def test_effective_numbers_by_hand():
    one = statistics([5, 5, 5, 5, 0])
    assert one.effective_classes == pytest.approx([4])
    # Four classes of 1 + β + ... + β^4 each.
    assert one.effective_examples == pytest.approx([4 * sum(0.999**i for i in range(5))])
    # A single class can't be worth more than 1 / (1 - β) = 1000 examples.
    assert statistics([10**6]).effective_examples == pytest.approx([1000])


def test_amounts_by_hand():
    equal, unequal = PartitionStatistics(np.array([3, 3, 3])), PartitionStatistics(np.array([0, 0, 9]))
    assert (equal.gini, unequal.gini) == pytest.approx((0, 2 / 3))
    assert (equal.effective_clients, unequal.effective_clients) == pytest.approx((3, 1))
    assert PartitionStatistics(np.array([1, 3])).gini == pytest.approx(0.25)
    assert PartitionStatistics(np.array([1, 3])).effective_clients == pytest.approx(16 / 10)


def test_duplicates_count_once_in_the_whole():
    one = statistics([4, 0], [0, 4], [0, 4], copy_of=np.array([0, 1, 1]))
    assert one.whole.tolist() == [0.5, 0.5]


def test_statistics_of_a_run_count_every_example_once():
    data = FederatedDataModule(Numbers(), 4, DirichletByClient(0.5), validation_fraction=0.2)
    one = data.statistics()
    assert one.counts.sum() == 80
    assert one.counts.sum(axis=1).tolist() == data.num_examples.tolist()
    counts = [data.client(client).label_counts().tolist() for client in range(4)]
    assert one.counts.tolist() == counts


def test_the_table_has_a_row_per_statistic():
    one = statistics([4, 0], [0, 2], [3, 3], levels={"label_noise": np.array([0, 0.25, 0.75]), "other": np.zeros(3)})
    rows = {name: cells for name, *cells in overview(one)}
    assert rows["per client"] == ["least", "25 %", "median", "75 %", "most", "mean"]
    assert rows["examples"] == ["2", "3", "4", "5", "6", "4"]
    assert rows["classes"] == ["1", "1", "1", "1.50", "2", "1.33"]
    assert rows["label noise (2 hit)"][:1] == ["0.25"]
    assert "other (0 hit)" not in rows
    assert [name for name, *_ in overview(PartitionStatistics(np.array([1, 2])))] == ["per client", "examples"]


def test_the_file_has_a_line_per_client(tmp_path):
    one = statistics(
        [4, 0],
        [0, 2],
        class_names=["cat", "dog"],
        client_names=["ann", "bob"],
        copy_of=np.array([0, 0]),
        levels={"label_noise": np.array([0, 0.25])},
    )
    write_clients(one, tmp_path / "deep" / "clients.csv")
    with (tmp_path / "deep" / "clients.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["ann", "bob"]
    assert rows[1]["label_noise"] == "0.25"
    assert rows[1]["copy_of"] == "0"
    assert (rows[0]["class_cat"], rows[0]["class_dog"], rows[0]["examples"]) == ("4", "0", "4")


@pytest.mark.parametrize(
    ("num_clients", "num_classes", "further"),
    [
        (1, 1, {}),
        (20, 10, {"levels": {"rotation_degrees": np.linspace(-30, 30, 20), "label_noise": np.zeros(20)}}),
        (60, 20, {"client_names": [f"writer number {k} of very many indeed" for k in range(60)]}),
        (30, 40, {}),
        (1500, 10, {"levels": {"label_noise": np.random.default_rng(0).random(1500)}}),
        (25, 0, {}),
        (300, 0, {}),
    ],
)
def test_pictures_of_all_sizes_have_ink_and_stay_small(num_clients, num_classes, further):
    rng = np.random.default_rng(0)
    if num_classes:
        counts = rng.integers(0, 9, (num_clients, num_classes)) + 1
        counts[0] *= 100
        one = statistics(*counts.tolist(), **further)
    else:
        one = PartitionStatistics(rng.integers(1, 1000, num_clients), **further)
    picture = draw_partition(one)
    assert picture.dtype == np.uint8
    assert picture.shape[1] < 1200
    assert picture.shape[0] < 900
    assert (picture < 200).mean() > 0.02


def test_a_fit_begins_with_its_partition(tmp_path):
    rule = DuplicatedClients(0.3, DirichletByClient(1.0))
    data = FederatedDataModule(Numbers(), 5, rule, corruption=[LabelNoise()])
    logger = TensorBoardLogger(str(tmp_path), name="", version="run")
    trainer(tmp_path, logger=logger).fit(Idle(), datamodule=data)
    folder = tmp_path / "run"
    logger.finalize("success")
    with Image.open(folder / "pictures" / "partition.png") as picture:
        assert picture.width > 500
    with (folder / "clients.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["label_noise"]) for row in rows] == pytest.approx(data.corruption_levels["label_noise"].tolist())
    events = EventAccumulator(str(folder))
    events.Reload()
    assert events.Tags()["images"] == ["picture/partition"]
    text = events.Tensors("partition/text_summary")[0].tensor_proto.string_val[0].decode()
    assert text.startswith("| per client | least |")


def test_data_that_are_not_ours_are_left_alone(tmp_path):
    batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(1, 1)), batch_size=1)
    trainer(tmp_path, logger=False).fit(Idle(), train_dataloaders=batches, val_dataloaders=batches)
    assert not list(tmp_path.rglob("clients.csv"))
