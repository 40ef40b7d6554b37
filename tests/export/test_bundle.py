"""Exports are what they say, checked, whole or not there at all."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fedlight.export import ExportError, export_submodel
from fedlight.export import bundle as bundle_module
from fedlight.export.onnx_model import probe_inputs
from fedlight.submodels import SubmodelPlan


class Net(nn.Module):
    """A convolution with batch normalisation, and a hidden layer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8 * 4 * 4, 3)

    def forward(self, images):
        return self.head(self.norm(self.conv(images)).relu().flatten(1))


class Tokens(nn.Module):
    """Integers in, two outputs."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.hidden = nn.Linear(4, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, tokens):
        hidden = self.hidden(self.embed(tokens).mean(1)).relu()
        return self.head(hidden), hidden.sum(1)


class Branching(Net):
    """What the exporter can't follow: a Python branch on a value."""

    def forward(self, images):
        return super().forward(images) if images.sum() > 1e9 else super().forward(images) * 2


def submodel(module, inputs, ratio=0.5):
    torch.manual_seed(0)
    plan = SubmodelPlan.trace(module, inputs)
    keep = plan.keep(torch.arange(plan.num_units).float(), ratio, round_to=1)
    thin = plan.build(module, keep)
    thin.load_state_dict(plan.slice(module.state_dict(), keep))
    return plan, keep, thin


IMAGES = (torch.zeros(2, 1, 4, 4),)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    out = tmp_path_factory.mktemp("exports") / "net"
    plan, keep, thin = submodel(Net(), IMAGES)
    calibration = [(torch.randn(16, 1, 4, 4),) for _ in range(3)]
    manifest = export_submodel(
        plan, keep, thin, IMAGES, out, origin={"ratio": 0.5}, class_names=["a", "b", "c"], calibration=calibration
    )
    return out, manifest, thin


def test_the_manifest_says_what_the_files_are(exported):
    out, manifest, _ = exported
    assert json.loads((out / "manifest.json").read_text()) == json.loads(json.dumps(manifest))
    # Conv 1 -> 4: 36 + 4; norm 4 + 4; head 64 x 3 + 3. MACs: 16 x 9 x 4 and 64 x 3 (normalisation is not counted).
    assert manifest["parameters"] == 40 + 8 + 195
    assert manifest["macs"] == 16 * 9 * 4 + 64 * 3
    assert manifest["kept_units"] == {"conv": {"kind": "channels", "of": 8, "kept": [4, 5, 6, 7]}}
    assert manifest["inputs"] == [{"name": "images", "shape": ["batch", 1, 4, 4], "dtype": "float32"}]
    assert manifest["class_names"] == ["a", "b", "c"]
    assert manifest["num_bytes"] == (out / "model.onnx").stat().st_size
    assert manifest["int8"]["num_bytes"] == (out / "model.int8.onnx").stat().st_size
    assert manifest["int8"]["num_examples"] == 48
    assert 0 <= manifest["int8"]["relative_difference"] < 0.2
    assert manifest["check"]["passed"]
    assert sorted(path.name for path in out.iterdir()) == ["manifest.json", "model.int8.onnx", "model.onnx"]
    assert [path.name for path in out.parent.iterdir()] == ["net"]


@pytest.mark.parametrize("batch_size", [1, 7])
def test_onnxruntime_computes_what_the_submodel_does(exported, batch_size):
    import onnxruntime

    out, _, thin = exported
    images = torch.randn(batch_size, 1, 4, 4)
    session = onnxruntime.InferenceSession(out / "model.onnx")
    with torch.no_grad():
        expected = thin.eval()(images).numpy()
    np.testing.assert_allclose(session.run(None, {"images": images.numpy()})[0], expected, atol=1e-5)


def test_integers_in_and_two_outputs(tmp_path):
    import onnxruntime

    tokens = (torch.tensor([[0, 1, 2], [3, 4, 0]]),)
    plan, keep, thin = submodel(Tokens(), tokens)
    manifest = export_submodel(plan, keep, thin, tokens, tmp_path / "text")
    assert manifest["inputs"][0]["dtype"] == "int64"
    assert manifest["outputs"] == ["output_0", "output_1"]
    outputs = onnxruntime.InferenceSession(tmp_path / "text" / "model.onnx").run(None, {"tokens": tokens[0].numpy()})
    assert [output.shape for output in outputs] == [(2, 2), (2,)]


def test_a_forward_that_branches_on_values_is_refused_and_leaves_nothing(tmp_path):
    plan, keep, thin = submodel(Net(), IMAGES)
    thin.__class__ = Branching
    with pytest.raises(
        ExportError, match=r"Branching.forward can't be exported .* write forward without Python branches"
    ):
        export_submodel(plan, keep, thin, IMAGES, tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_computes_something_else_is_refused(tmp_path, monkeypatch):
    plan, keep, thin = submodel(Net(), IMAGES)
    write = bundle_module.write_onnx

    def write_then_change(module, inputs, path):
        names = write(module, inputs, path)
        with torch.no_grad():
            module.head.bias += 1
        return names

    monkeypatch.setattr(bundle_module, "write_onnx", write_then_change)
    with pytest.raises(ExportError, match=r"onnxruntime differs from PyTorch by 1.0e\+00, more than"):
        export_submodel(plan, keep, thin, IMAGES, tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


def test_what_was_exported_before_stays_when_an_export_fails(tmp_path, monkeypatch):
    (tmp_path / "manifest.json").write_text("before")
    plan, keep, thin = submodel(Net(), IMAGES)
    monkeypatch.setattr(bundle_module, "check_onnx", lambda *args: (_ for _ in ()).throw(ExportError("no")))
    with pytest.raises(ExportError):
        export_submodel(plan, keep, thin, IMAGES, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
    assert (tmp_path / "manifest.json").read_text() == "before"


def test_nan_outputs_don_t_pass(tmp_path):
    plan, keep, thin = submodel(Net(), IMAGES)
    with torch.no_grad():
        thin.head.bias[0] = torch.nan
    with pytest.raises(ExportError, match="differs from PyTorch by nan"):
        export_submodel(plan, keep, thin, IMAGES, tmp_path / "net")


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    plan, keep, thin = submodel(Net(), IMAGES)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ExportError, match=r"install it by pip install 'fedlight\[export\]'"):
        export_submodel(plan, keep, thin, IMAGES, tmp_path / "net")


def test_an_unwritable_folder_is_named(tmp_path):
    plan, keep, thin = submodel(Net(), IMAGES)
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match=r"--out: can't write to .*file/net \(.*\); choose a folder of yours"):
        export_submodel(plan, keep, thin, IMAGES, Path(tmp_path / "file" / "net"))


def test_probes_keep_to_the_examples_range():
    floats, integers = torch.zeros(2, 3), torch.tensor([[5, 6], [7, 8]])
    first, second = probe_inputs((floats, integers), 4, seed=1), probe_inputs((floats, integers), 4, seed=1)
    assert [probe.shape for probe in first] == [(4, 3), (4, 2)]
    assert first[0].std() > 0.1
    assert set(first[1].flatten().tolist()) <= {5, 6, 7, 8}
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
