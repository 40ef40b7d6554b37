"""What is wrong with clients' training data, and what isn't touched by it."""

import time

import jsonargparse
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from fedlight.data import (
    Blur,
    Colour,
    Digits,
    DirichletByClient,
    DuplicatedClients,
    FeatureNoise,
    FederatedDataModule,
    LabelNoise,
    MapDataset,
    Rotation,
    Source,
    Splits,
    TensorExamples,
)
from fedlight.errors import ConfigError, DataError

INDICES = torch.arange(2)


class Grey(Source):
    """uint8 images of 1 x 6 x 6 pixels, example i all of brightness i, normalised by mean .5 and deviation .25."""

    def __init__(self, count: int = 100, num_classes: int = 5) -> None:
        self.count = count
        self.num_classes = num_classes

    def load(self) -> Splits:
        def images(count: int) -> TensorExamples:
            values = torch.arange(count) % 256
            pixels = values.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 6, 6).contiguous()
            return TensorExamples(pixels, values % self.num_classes, [0.5], [0.25])

        return Splits(images(self.count), images(7))


def module(*corruption, **settings) -> FederatedDataModule:
    return FederatedDataModule(Grey(), **({"num_clients": 10} | settings), corruption=list(corruption))


def everything(batches) -> tuple[Tensor, Tensor]:
    inputs, targets = zip(*batches, strict=True)
    return torch.cat(inputs), torch.cat(targets)


def epoch(data, client: int) -> tuple[Tensor, Tensor]:
    return everything(data.client(client).epoch(torch.Generator().manual_seed(0)))


def test_exactly_the_share_of_labels_of_exactly_the_share_of_clients_is_wrong():
    clean, noisy = module(), module(LabelNoise(0.3, 0.5))
    levels = noisy.corruption_levels["label_noise"]
    assert sorted(levels) == [0] * 7 + [0.5] * 3
    for client in range(10):
        (inputs, truth), (same, labels) = epoch(clean, client), epoch(noisy, client)
        assert torch.equal(inputs, same)
        assert (labels != truth).sum() == (round(0.5 * 9) if levels[client] else 0)
        assert (labels != truth).float().mean() == pytest.approx(levels[client], abs=0.06)


def test_levels_lie_between_the_two_ends():
    levels = LabelNoise(0.5, 0.2, 0.8).levels(2000, np.random.default_rng(0))
    hit = levels[levels > 0]
    assert len(hit) == 1000
    assert hit.min() >= 0.2
    assert hit.max() <= 0.8
    # The mean of a uniform law has the standard error (b - a) / sqrt(12 n).
    assert hit.mean() == pytest.approx(0.5, abs=4 * 0.6 / np.sqrt(12 * 1000))


def test_wrong_labels_are_any_other_class_or_the_next():
    labels = torch.zeros(4000, dtype=torch.int64)
    anything = LabelNoise(kind="symmetric").relabel(labels, 5, 1.0, torch.Generator().manual_seed(0))
    counts = torch.bincount(anything, minlength=5)
    assert counts[0] == 0
    # Binomial: 1000 of each, with the standard deviation sqrt(4000 · 3/16) = 27.
    assert (counts[1:] - 1000).abs().max() < 4 * 27
    following = LabelNoise(kind="pair").relabel(labels + 4, 5, 0.25, torch.Generator().manual_seed(0))
    assert torch.bincount(following, minlength=5).tolist() == [1000, 0, 0, 0, 3000]


def test_a_client_sees_the_same_wrong_labels_everywhere():
    data = module(LabelNoise(1.0, 0.5), batch_size=4)
    client = data.client(3)
    inputs, labels = everything(client.in_order())
    again, shuffled = epoch(data, 3)
    by_example = dict(zip(inputs[:, 0, 0, 0].tolist(), labels.tolist(), strict=True))
    assert [by_example[value] for value in again[:, 0, 0, 0].tolist()] == shuffled.tolist()
    assert client.label_counts().tolist() == torch.bincount(labels, minlength=5).tolist()
    halves = [everything(half.in_order()) for half in client.halves()]
    for half_inputs, half_labels in halves:
        assert [by_example[value] for value in half_inputs[:, 0, 0, 0].tolist()] == half_labels.tolist()
    assert sum(len(half) for half, _ in halves) == len(inputs)


def test_validation_test_and_the_servers_own_data_stay_clean():
    corruption = [LabelNoise(1.0, 1.0), FeatureNoise(1.0, 0.5), Rotation(90.0)]
    clean = FederatedDataModule(Digits(), 4, server_fraction=0.2)
    bad = FederatedDataModule(Digits(), 4, server_fraction=0.2, corruption=corruption)
    for read in ("val_dataloader", "test_dataloader"):
        for mine, theirs in zip(getattr(clean, read)(), getattr(bad, read)(), strict=True):
            assert torch.equal(mine[0], theirs[0])
            assert torch.equal(mine[1], theirs[1])
    for mine, theirs in zip(clean.server().halves(), bad.server().halves(), strict=True):
        assert torch.equal(everything(mine.in_order())[0], everything(theirs.in_order())[0])
        assert torch.equal(everything(mine.in_order())[1], everything(theirs.in_order())[1])
    assert not torch.equal(epoch(clean, 0)[0], epoch(bad, 0)[0])
    assert np.array_equal(clean.statistics().counts, bad.statistics().counts)  # by the true labels


def test_noise_is_added_before_images_are_normalised_and_belongs_to_the_example():
    clean, noisy = module(num_clients=1), module(FeatureNoise(1.0, 0.1), num_clients=1)
    inputs, _ = epoch(clean, 0)
    changed, _ = epoch(noisy, 0)
    noise = changed - inputs
    # 90 x 36 draws of deviation .1 / .25; its standard error is .4 / sqrt(2 · 3240).
    assert noise.std() == pytest.approx(0.4, abs=4 * 0.4 / np.sqrt(2 * 3240))
    assert noise.mean() == pytest.approx(0, abs=4 * 0.4 / np.sqrt(3240))
    assert torch.equal(changed, epoch(noisy, 0)[0])
    other_order = everything(noisy.client(0).epoch(torch.Generator().manual_seed(1)))[0]
    assert torch.equal(changed.flatten(1).sort(0).values, other_order.flatten(1).sort(0).values)
    assert not torch.equal(noise[0], noise[1])


def test_a_quarter_turn_is_a_quarter_turn_for_all_images_of_a_client():
    images = torch.rand(2, 3, 5, 5)
    turned = Rotation().change(images.clone(), 90.0, 0, INDICES)
    assert torch.allclose(turned, images.rot90(1, (2, 3)), atol=1e-5)
    angles = Rotation(30).levels(5000, np.random.default_rng(0))
    assert np.abs(angles).max() <= 30
    assert angles.std() == pytest.approx(60 / np.sqrt(12), rel=0.05)


def test_blur_spreads_a_point_as_far_as_its_sigma():
    point = torch.zeros(2, 1, 21, 21)
    point[:, :, 10, 10] = 1
    blurred = Blur().change(point, 1.5, 0, INDICES)[0, 0]
    assert blurred.sum() == pytest.approx(1, abs=1e-5)
    along = blurred.sum(0)
    # The variance of the kernel is σ², less what is cut off beyond 3 σ (about 3 %).
    assert (along * (torch.arange(21) - 10) ** 2).sum() == pytest.approx(1.5**2, rel=0.05)
    assert Blur().change(torch.rand(2, 1, 3, 3), 5.0, 0, INDICES).shape == (2, 1, 3, 3)


def test_colours_change_by_the_strength_and_in_the_same_way_for_all_images_of_a_client():
    flat = torch.full((2, 1, 4, 4), 0.4)
    seen = set()
    for seed in range(20):
        changed = Colour().change(flat.clone(), 0.5, seed, INDICES)
        assert torch.allclose(changed, changed[0, 0, 0, 0].expand_as(changed))
        seen.add(round(changed[0, 0, 0, 0].item(), 4))
    # Contrast pulls towards the mean, which a flat image is: brightness alone is left.
    assert seen == {0.2, 0.6}
    coloured = Colour().change(torch.rand(2, 3, 4, 4), 0.5, 0, INDICES)
    assert coloured.min() >= 0
    assert coloured.max() <= 1


def test_corruptions_apply_in_the_order_given():
    noise_then_blur, blur_then_noise = (
        epoch(module(*parts, num_clients=1), 0)[0].var(dim=(1, 2, 3)).mean()
        for parts in ([FeatureNoise(1.0, 0.3), Blur(3.0)], [Blur(3.0), FeatureNoise(1.0, 0.3)])
    )
    assert noise_then_blur < blur_then_noise / 2


def test_a_copy_has_noise_of_its_own():
    rule = DuplicatedClients(0.5, DirichletByClient(1.0))
    data = module(FeatureNoise(1.0, 0.3), num_clients=2, partition=rule)
    assert len(set(data.statistics().copy_of)) == 1
    first, second = (everything(data.client(k).in_order())[1] for k in range(2))
    assert torch.equal(first, second)
    first, second = (everything(data.client(k).in_order())[0] for k in range(2))
    assert not torch.equal(first, second)


def test_the_seed_decides_who_is_hit_and_how_and_other_parts_do_not_matter():
    def noisy(seed: int, *others) -> FederatedDataModule:
        return module(LabelNoise(0.5, 0.2, 0.8), *others, seed=seed)

    first, again, with_others, other = noisy(1), noisy(1), noisy(1, Rotation(), FeatureNoise()), noisy(2)
    levels = first.corruption_levels["label_noise"]
    assert np.array_equal(levels, again.corruption_levels["label_noise"])
    assert np.array_equal(levels, with_others.corruption_levels["label_noise"])
    assert not np.array_equal(levels, other.corruption_levels["label_noise"])
    hit = int(levels.argmax())
    assert torch.equal(epoch(first, hit)[1], epoch(with_others, hit)[1])


def test_any_dataset_whose_batches_are_inputs_and_labels_can_be_corrupted():
    dataset = TensorDataset(torch.zeros(40, 3), torch.arange(40) % 4)
    data = FederatedDataModule(MapDataset(dataset), 2, corruption=[FeatureNoise(1.0, 0.5), LabelNoise(1.0, 1.0)])
    inputs, labels = epoch(data, 0)
    assert inputs.std() == pytest.approx(0.5, rel=0.3)
    truth = torch.bincount(torch.tensor(data.dataset.load().train.labels), minlength=4)
    assert labels.shape == (18,)
    assert len(truth) == 4


@pytest.mark.parametrize(
    ("source", "corruption", "words"),
    [
        (TensorDataset(torch.zeros(9, 3), torch.rand(9)), LabelNoise(), "no class labels"),
        (TensorDataset(torch.zeros(9, 3), torch.zeros(9, dtype=int)), LabelNoise(), "has 1 class: leave it out"),
        (TensorDataset(torch.zeros(9, 3), torch.arange(9) % 2), Rotation(), r"have shape \[3\]: leave it out"),
        (TensorDataset(torch.zeros(9, 2, 4, 4), torch.arange(9) % 2), Colour(), r"have shape \[2, 4, 4\]"),
        (TensorDataset(torch.zeros(9, 3, dtype=int), torch.arange(9) % 2), FeatureNoise(1.0), "no such thing"),
    ],
)
def test_what_does_not_fit_the_data_is_refused_before_the_first_round(source, corruption, words):
    with pytest.raises(DataError, match=words):
        FederatedDataModule(MapDataset(source), 2, corruption=[corruption], validation_fraction=0).setup()


def test_tokens_can_not_be_noisy():
    class Tokens(Source):
        def load(self) -> Splits:
            return Splits(TensorExamples(torch.zeros(9, 4, dtype=torch.int64), torch.arange(9) % 3))

    with pytest.raises(DataError, match=r"whole numbers \(tokens\?\)"):
        FederatedDataModule(Tokens(), 2, corruption=[FeatureNoise(1.0)]).setup()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LabelNoise(1.1), r"share is 1.1: a share of clients must be in \[0, 1\]"),
        (lambda: LabelNoise(level=0.0), r"level is 0.0: it must be in \(0, 1\]"),
        (lambda: LabelNoise(level=1.5), "level is 1.5"),
        (lambda: LabelNoise(level=0.5, max_level=0.4), "max_level is 0.4: .* at least level = 0.5"),
        (lambda: FeatureNoise(std=-1.0), "std is -1.0: it must be above 0"),
        (lambda: FeatureNoise(max_std=float("inf")), "max_std is inf"),
        (lambda: Rotation(181), "max_degrees is 181"),
        (lambda: Blur(0), "max_sigma is 0"),
        (lambda: Colour(2.0), "max_strength is 2.0"),
        (lambda: Rotation(share=float("nan")), "share is nan"),
    ],
)
def test_bad_settings_are_refused_at_once(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


def test_two_of_a_kind_are_refused():
    with pytest.raises(ConfigError, match="holds LabelNoise twice"):
        module(LabelNoise(), LabelNoise()).setup()


def test_a_hundred_thousand_clients_cost_nothing_but_their_levels():
    data = FederatedDataModule(
        Grey(200_000),
        100_000,
        corruption=[LabelNoise(0.3, 0.2, 0.8), FeatureNoise(), Rotation()],
        validation_fraction=0,
    )
    started = time.process_time()
    data.setup()
    assert time.process_time() - started < 5
    assert {levels.nbytes for levels in data.corruption_levels.values()} == {800_000}
    assert epoch(data, 99_999)[0].shape == (2, 1, 6, 6)


def test_a_config_builds_them():
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(FederatedDataModule, "data")
    parts = [{"class_path": "LabelNoise", "init_args": {"share": 0.5}}, {"class_path": "Blur"}]
    config = parser.parse_object({"data": {"dataset": "Digits", "num_clients": 4, "corruption": parts}})
    noise, blur = parser.instantiate(config).data.corruption
    assert isinstance(noise, LabelNoise)
    assert noise.share == 0.5
    assert isinstance(blur, Blur)
