"""Every config in configs/ is a config, says something of each of its keys, and trains a round."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from plays import SCENE

import fedlight.algorithms
from fedlight.cli import main

CONFIGS = sorted((Path(__file__).resolve().parent.parent / "configs").glob("*.yaml"))
SHAPES = {"fashion_mnist": (1, 28, 28), "cifar10": (3, 32, 32)}


def size_key(name: str) -> str:
    """What the algorithm of a config calls the number of clients that train side by side."""
    return "concurrency" if name.startswith(("fedasync", "fedbuff")) else "clients_per_round"


def stand_in(name: str) -> list[str]:
    """Options that put a few random images, or a few lines, in place of a data set that has to be downloaded."""
    if name.startswith("gpt"):
        Path("play.txt").write_text(SCENE)
        few = ["--data.num_clients=3", "--data.partition.min_samples=2", "--model.algorithm.clients_per_round=2"]
        return ["--data.dataset.path=play.txt", "--data.dataset.sequence_length=20", "--model.client.depth=1", *few]
    if name.startswith("shakespeare"):
        Path("play.txt").write_text(SCENE)
        few = ["--data.num_clients=3", "--data.partition.min_samples=1", "--model.algorithm.clients_per_round=2"]
        return ["--data.dataset.path=play.txt", "--data.dataset.sequence_length=20", *few]
    shape = next((shape for key, shape in SHAPES.items() if name.endswith(key)), None)
    if shape is None:
        return []
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 60), ("test", 20)):
        arrays[f"x_{split}"] = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
        arrays[f"y_{split}"] = np.arange(count) % 10
    np.savez("images.npz", **arrays)
    few = ["--data.num_clients=4", "--data.batch_size=4"]
    if "cifar10" in name:
        few.append(f"--model.algorithm.{size_key(name)}=2")
    return ["--data.dataset=Npz", "--data.dataset.path=images.npz", *few]


def test_there_is_one_per_algorithm_and_data_set():
    expected = {f"{name.lower()}_{data}" for name in fedlight.algorithms.__all__ for data in SHAPES}
    assert {path.stem for path in CONFIGS} >= expected | {"quickstart"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_trains_a_round(path, tmp_path, monkeypatch, capsys, blank_pictures):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    options = ["--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.default_root_dir=out"]
    code = main(["fit", "--config", str(path), *options, *stand_in(path.stem)])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    checkpoint = torch.load("out/version_0/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["fedlight"]["round_idx"] == 1
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_says_what_it_writes_and_comments_every_value(path):
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    assert lines[1] == f"#   fedlight fit --config configs/{path.name}"
    values = [line for line in lines if not line.startswith("#") and not line.rstrip().endswith(":")]
    bare = [line for line in values if "#" not in line and "class_path" not in line]
    assert not bare
    assert f"default_root_dir: runs/{path.stem}" in path.read_text()
