"""What a device gets: model.onnx, on request model.int8.onnx, and a manifest that says what they are."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fedlight.export.onnx_model import OPSET, ExportError, check_onnx, input_names, require_onnx, write_onnx
from fedlight.export.quantize import quantize_onnx
from fedlight.submodels import SubmodelPlan

MODEL, INT8_MODEL, MANIFEST = "model.onnx", "model.int8.onnx", "manifest.json"


def export_submodel(
    plan: SubmodelPlan,
    keep: Tensor,
    thin: nn.Module,
    inputs: tuple[Tensor, ...],
    out: str | Path,
    *,
    origin: Mapping[str, Any] | None = None,
    class_names: Sequence[str] | None = None,
    calibration: Sequence[tuple[Tensor, ...]] | None = None,
    classifies: bool = False,
    overwrite: bool = False,
    metrics: Mapping[str, float] | None = None,
    measured_on: str | None = None,
) -> dict[str, Any]:
    """Write a submodel for use on a device, checked against PyTorch; return the manifest.

    The files appear in ``out`` only when all of them are done and checked; an export that fails leaves it as it was.

    Args:
        plan: plan of the full model.
        keep: bool[num_units], the units that ``thin`` has.
        thin: the submodel, as ``plan.build`` makes it.
        inputs: example arguments of its forward, batch first.
        out: folder to write to.
        origin: plain facts about where the submodel comes from, for the manifest.
        class_names: names of the outputs.
        calibration: batches of inputs to quantise by; None writes no int8 file.
        classifies: whether the first output is one score per class, by which int8 and float32 are then compared.
        overwrite: whether an export that is in ``out`` may be replaced.
        metrics: what the submodel reaches, for the manifest.
        measured_on: which data the metrics are of, for the manifest.

    Raises:
        ExportError: a package is missing, ``out`` holds an export or can't be written, the module can't be exported, or
            the check fails.
    """
    require_onnx()
    out = Path(out)
    if not overwrite:
        refuse_to_overwrite(out)
    thin = thin.cpu().eval()
    inputs = tuple(tensor.detach().cpu() for tensor in inputs)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        workshop = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise ExportError(f"--out: can't write to {out} ({error.strerror}); choose a folder of yours") from error
    try:
        outputs = write_onnx(thin, inputs, workshop / MODEL)
        check = check_onnx(thin, inputs, workshop / MODEL)
        cost = plan.cost(keep)
        manifest: dict[str, Any] = {
            "model": type(thin).__name__,
            "files": {"float32": MODEL},
            "origin": dict(origin or {}),
            "opset": OPSET,
            "inputs": [
                {"name": name, "shape": ["batch", *tensor.shape[1:]], "dtype": str(tensor.dtype).removeprefix("torch.")}
                for name, tensor in zip(input_names(thin, inputs), inputs, strict=True)
            ],
            "outputs": outputs,
            "class_names": None if class_names is None else list(class_names),
            "parameters": cost.parameters,
            "macs": cost.macs,
            "num_bytes": os.path.getsize(workshop / MODEL),
            "metrics": None if metrics is None else dict(metrics),
            "measured_on": measured_on,
            "kept_units": _kept_units(plan, keep),
            "check": {**asdict(check), "tolerance": check.tolerance, "passed": check.passed},
            "int8": None,
            "versions": {name: version(name) for name in ("fedlight", "torch", "onnx", "onnxruntime")},
        }
        if calibration is not None:
            result = quantize_onnx(workshop / MODEL, workshop / INT8_MODEL, calibration, classifies)
            manifest["files"]["int8"] = INT8_MODEL
            manifest["int8"] = asdict(result)
        (workshop / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
        _publish(workshop, out)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    return manifest


def refuse_to_overwrite(out: Path) -> None:
    """Raise ExportError if there is an export in ``out``."""
    if (out / MODEL).exists():
        raise ExportError(f"--out: {out} holds {MODEL} already; choose another folder, or replace it by --overwrite")


def _kept_units(plan: SubmodelPlan, keep: Tensor) -> dict[str, dict[str, Any]]:
    """Return for every group how many units it had and which of them are kept."""
    return {
        group.name: {
            "kind": group.kind,
            "of": group.size,
            "kept": torch.nonzero(keep[group.units]).flatten().tolist(),
        }
        for group in plan.groups
    }


def _publish(workshop: Path, out: Path) -> None:
    """Move finished files into ``out``, the manifest last: whoever finds it finds what it names."""
    try:
        out.mkdir(exist_ok=True)
        for name in (MODEL, INT8_MODEL, MANIFEST):
            if (workshop / name).exists():
                os.replace(workshop / name, out / name)
            else:
                (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise ExportError(f"--out: can't write to {out} ({error.strerror}); choose a folder of yours") from error
