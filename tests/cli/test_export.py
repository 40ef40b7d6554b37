"""Exports follow the algorithm's own extraction, and say what they were measured on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from fedlight.cli import main
from fedlight.cli.saved import SavedRun
from fedlight.core.seeds import SERVER
from fedlight.parts.importance import Magnitude

FIT = ("fit", "--config", "tiny.yaml", "--test_after_fit", "false")
LAST = "out/version_0/checkpoints/last.ckpt"

OWN_PARTS = """\
model:
  algorithm:
    class_path: fedlight.core.Algorithm
    init_args:
      selection: fedlight.parts.UniformSelection
      ratio: {class_path: fedlight.parts.Fixed, init_args: {ratio: 0.25}}
      importance: fedlight.parts.Magnitude
      extraction: EXTRACTION
      local: fedlight.parts.LeanLoop
      norm: fedlight.parts.RunningStatistics
      compression: fedlight.parts.NoCompression
      contribution: fedlight.parts.SampleCount
      aggregation: fedlight.parts.CoverageMean
      schedule: fedlight.parts.Synchronous
"""


def export(*options: str) -> dict:
    assert main(["export", "--ckpt_path", LAST, "--out", "onnx", *options]) == 0
    return json.loads(Path("onnx/manifest.json").read_text())


def test_a_ratio_is_cut_by_the_algorithms_own_scope_and_rounding(config):
    channels = "{class_path: fedlight.parts.Channels, init_args: {scope: global, round_to: 1, min_units: 5}}"
    assert main([*FIT, "--config", config(OWN_PARTS.replace("EXTRACTION", channels))]) == 0
    manifest = export("--ratio", "0.5")
    run = SavedRun(LAST)
    plan = run.server.plan
    keep = plan.keep(Magnitude().scores(run.state(), SERVER), 0.5, scope="global", round_to=1, min_units=5)
    for group in plan.groups:
        kept = torch.nonzero(keep[group.units]).flatten().tolist()
        assert manifest["kept_units"][group.name]["kept"] == kept
    assert manifest["origin"]["importance"] == "Magnitude"


def test_weight_masks_are_exported_as_zeros(config, capsys):
    import onnx

    assert main([*FIT, "--config", config(OWN_PARTS.replace("EXTRACTION", "fedlight.parts.Weights"))]) == 0
    for options in (("--ratio", "0.75"), ("--client", "1")):
        manifest = export(*options)
        assert "importance" not in manifest["origin"]
        sizes = {name: len(one["kept"]) for name, one in manifest["kept_units"].items()}
        assert sizes == {name: one["of"] for name, one in manifest["kept_units"].items()}
        tensors = [onnx.numpy_helper.to_array(one) for one in onnx.load("onnx/model.onnx").graph.initializer]
        hidden = next(one for one in tensors if one.size == 512 * 64)
        assert (hidden == 0).mean() == (0.75 if "--ratio" in options else 0.25)
    capsys.readouterr()
    assert main(["export", "--ckpt_path", LAST, "--client", "99", "--out", "none"]) == 2
    assert capsys.readouterr().err == (
        "fedlight: client 99 has no submodel in this checkpoint (those of 0, 1, 2 are there); use --ratio instead\n"
    )


def test_where_validation_reads_the_test_set_nothing_is_chosen_by_it(config, capsys):
    file = config("data: {validate_on: test}\n")
    assert main([*FIT, "--config", file, "--trainer.max_epochs", "2"]) == 0
    assert [path.name for path in Path(LAST).parent.iterdir()] == ["last.ckpt"]
    capsys.readouterr()
    assert export("--ratio", "0")["measured_on"] == "test"
    assert "val accuracy (test set)" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:You passed in a `val_dataloader` but have no `validation_step`")
def test_without_validation_an_export_has_no_metrics():
    Path("mute_net.py").write_text(
        "import torch, lightning\n"
        "class Net(lightning.LightningModule):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.example_input_array = torch.zeros(2, 1, 8, 8)\n"
        "        self.hidden, self.head = torch.nn.Linear(64, 16), torch.nn.Linear(16, 10)\n"
        "    def forward(self, x):\n"
        "        return self.head(self.hidden(x.flatten(1)).relu())\n"
        "    def training_step(self, batch, batch_idx):\n"
        "        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])\n"
        "    def configure_optimizers(self):\n"
        "        return torch.optim.SGD(self.parameters(), lr=0.1)\n"
    )
    assert main([*FIT, "--model.client", "mute_net.Net"]) == 0
    manifest = export("--ratio", "0.5")
    assert manifest["metrics"] is None
    assert manifest["measured_on"] is None
    assert manifest["check"]["passed"]


@pytest.mark.parametrize("fraction", [0.0, 0.2])
def test_metrics_are_those_of_the_data_held_back(fraction):
    assert main([*FIT, "--data.validation_fraction", str(fraction)]) == 0
    manifest = export("--ratio", "0.5")
    assert (manifest["metrics"] is None) == (fraction == 0)
    assert manifest["measured_on"] == ("holdout" if fraction else None)
