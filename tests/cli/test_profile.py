"""Profiles of every algorithm that a config names."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fedlight.cli import main

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))
CHANNELS = 8 * 10 + 16 * 73 + 256 * 32 + 32 + 330  # of conv 1-16-32, then 512-64-10, at .5: conv 1-8-16, then 256-32-10
MASKED = (16 * 9 + 32 * 144 + 512 * 64 + 640) // 2 + 16 + 32 + 64 + 10  # at .5: half of the weights, and all biases
PROFILE = ("profile", "--config", "tiny.yaml", "--ratios", "0.5", "--steps", "1")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_algorithm_of_each_config(path, config, capsys):
    algorithm = yaml.safe_load(path.read_text())["model"]["algorithm"]
    assert main([*PROFILE, "--config", config(yaml.safe_dump({"model": {"algorithm": algorithm}}))]) == 0
    out = capsys.readouterr().out
    name = algorithm if isinstance(algorithm, str) else algorithm["class_path"]
    if name in ("FedDUAP", "PruneFL"):  # they look for their map themselves, whatever ratio is asked for
        assert " 0.5 " in out
    else:
        assert f"{MASKED if name == 'FedLightMask' else CHANNELS:,}" in out


def test_a_module_with_a_schedule_of_learning_rates(write_net):
    write_net(
        "slowing.py",
        "optimizer = torch.optim.SGD(self.parameters(), lr=0.1)",
        "return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)]",
    )
    assert main([*PROFILE, "--model.client", "slowing.Net"]) == 0


def test_the_share_that_layers_really_keep(config, capsys):
    # At .6 multiples of 8 leave 8 of 16 channels, 16 of 32 and 24 of 64 hidden units.
    assert main([*PROFILE[:3], "--ratios", "0", "0.6", "--steps", "1", "--model.algorithm", "SpeedRatio"]) == 0
    rows = [line.split("│")[1:3] for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert [[cell.strip() for cell in row] for row in rows[-2:]] == [["0", "1.00"], ["0.6", "0.38-0.50"]]
