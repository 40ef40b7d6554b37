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
    assert main(["export", "--ckpt_path", LAST, "--out", "onnx", "--overwrite", *options]) == 0
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
def test_without_validation_an_export_has_no_metrics(write_net):
    write_net("mute_net.py", "return torch.optim.SGD(self.parameters(), lr=0.1)")
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


DICTS = """\
import torch, lightning
from torch.utils.data import Dataset
import fedlight.data as data

class Rows(Dataset):
    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(120, 5, generator=generator)
        self.scale = 1 + torch.rand(120, 1, generator=generator)
        self.targets = (self.x[:, 0] > 0).long() if LABELS else None
    def __len__(self):
        return len(self.x)
    def __getitem__(self, i):
        x, scale = self.x[i], self.scale[i]
        return {"y": self.targets[i] if LABELS else x.sum()[None] * scale, "scale": scale, "x": x}

class Rowed(data.Source):
    def load(self):
        return data.Splits(train=data.DatasetExamples(Rows()))

class Net(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.example_input_array = {"scale": torch.ones(2, 1), "x": torch.zeros(2, 5)}
        self.hidden, self.out = torch.nn.Linear(5, 16), torch.nn.Linear(16, 2 if LABELS else 1)
        self.norm = torch.nn.BatchNorm1d(16)
    def forward(self, x, scale):
        return self.out(self.norm(self.hidden(x)).relu()) * scale
    def training_step(self, batch, batch_idx):
        out = self(batch["x"], scale=batch["scale"])
        loss = torch.nn.functional.cross_entropy if LABELS else torch.nn.functional.mse_loss
        return loss(out, batch["y"])
    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.training_step(batch, batch_idx))
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
"""


@pytest.mark.parametrize("labels", [False, True])
def test_dict_batches_from_training_to_int8(labels, capsys):
    module = f"rows_{labels}".lower()
    Path(f"{module}.py").write_text(f"LABELS = {labels}\n{DICTS}")
    options = [
        *FIT, "--model.client", f"{module}.Net", "--data.dataset", f"{module}.Rowed", "--data.server_fraction", "0.2",
        "--model.algorithm", "HeteroFL",
    ]  # fmt: skip
    assert main([*options, *([] if labels else ["--model.algorithm.local", "LeanLoop"])]) == 0
    capsys.readouterr()
    int8 = export("--ratio", "0.5", "--int8")["int8"]
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert (int8["agreement"] is not None) == labels
    assert ("same answer on" in out) == labels
    assert ("on average" in out) != labels
    assert 0 < int8["mean_difference"] <= int8["max_difference"] < 1
    assert "larger than the float32 file" in out


def test_an_export_is_not_overwritten_unasked(refusal, capsys):
    assert main([*FIT]) == 0
    export("--ratio", "0.5")
    capsys.readouterr()
    before = Path("onnx/manifest.json").read_text()
    message = refusal("export", "--ckpt_path", LAST, "--ratio", "0", "--out", "onnx")
    assert message == "--out: onnx holds model.onnx already; choose another folder, or replace it by --overwrite"
    assert Path("onnx/manifest.json").read_text() == before
    assert export("--ratio", "0")["origin"]["ratio"] == 0


def test_masked_logits_without_labels_name_the_way_out(capsys):
    Path("rows.py").write_text(f"LABELS = False\n{DICTS}")
    own = ("--model.client", "rows.Net", "--data.dataset", "rows.Rowed", "--data.server_fraction", "0.2")
    assert main([*FIT, *own, "--model.algorithm", "HeteroFL"]) == 2
    assert "`--model.algorithm.local LeanLoop`" in capsys.readouterr().err.splitlines()[-1]
