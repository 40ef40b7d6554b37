"""A module as an ONNX file, and the check that onnxruntime computes what PyTorch does."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from fedlight.errors import FedlightError
from fedlight.export.quiet import silenced

OPSET = 18
"""ONNX operator set: the lowest that torch's exporter writes, so that older runtimes on devices can read the file."""

TOLERANCE = 1e-4
"""Largest difference between onnxruntime and PyTorch, relative to the largest output: float32 sums in another order."""

CHECK_BATCHES = (1, 2, 5)
"""Batch sizes at which the file is checked; one of them is not that of the example."""

EXPORTER_LOGGERS = ("onnxscript", "onnx_ir", "torch.onnx", "torch.export")
"""Loggers that report the exporter's progress and the deprecations of its own packages."""


@final
class ExportError(FedlightError):
    """A submodel that can't be exported, or whose file doesn't compute what it should."""


@final
@dataclass(frozen=True)
class Check:
    """Result of comparing an ONNX file to its module.

    Attributes:
        max_difference: largest |onnxruntime - PyTorch| over all inputs and outputs.
        max_output: largest |PyTorch|.
        batch_sizes: batch sizes that were tried.
    """

    max_difference: float
    max_output: float
    batch_sizes: tuple[int, ...]

    @property
    def tolerance(self) -> float:
        """Largest difference that passes: 1e-4 · max(0.01, largest output)."""
        return TOLERANCE * max(0.01, self.max_output)

    @property
    def passed(self) -> bool:
        """Whether the difference is a number within the tolerance."""
        return self.max_difference <= self.tolerance


def require_onnx() -> None:
    """Raise ExportError if the packages of the extra ``export`` are not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ExportError(
            f"export needs the package {error.name}; install it by pip install 'fedlight[export]'"
        ) from error


def input_names(module: nn.Module, inputs: Sequence[Any]) -> list[str]:
    """Return the names of forward's arguments that ``inputs`` fill."""
    parameters = list(inspect.signature(module.forward).parameters.values())
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return names[: len(inputs)] if len(names) >= len(inputs) else [f"input_{index}" for index in range(len(inputs))]


def write_onnx(module: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> list[str]:
    """Write a module in eval mode as ONNX with a dynamic batch; return the names of the outputs.

    Args:
        module: the network.
        inputs: example arguments of its forward, batch first.
        path: file to write.

    Raises:
        ExportError: the exporter can't follow the module's forward.
    """
    example = probe_inputs(inputs, 2, seed=0)
    outputs = output_tensors(module, example)
    names = ["output"] if len(outputs) == 1 else [f"output_{index}" for index in range(len(outputs))]
    batch = torch.export.Dim("batch")
    try:
        with silenced(*EXPORTER_LOGGERS):
            torch.onnx.export(
                module,
                example,
                path,
                dynamo=True,
                dynamic_shapes=tuple({0: batch} for _ in example),
                input_names=input_names(module, inputs),
                output_names=names,
                opset_version=OPSET,
                external_data=False,
                verbose=False,
            )
    except Exception as error:
        reason = " ".join(str(error.__cause__ or error).split())[:300]
        raise ExportError(
            f"{type(module).__name__}.forward can't be exported as ONNX with a dynamic batch: {reason}; "
            "write forward without Python branches on values and without fixed batch sizes"
        ) from error
    return names


def check_onnx(module: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> Check:
    """Compare the file to the module on random inputs of several batch sizes.

    Raises:
        ExportError: onnxruntime can't run the file, or computes something else.
    """
    session = open_session(path)
    difference, largest = 0.0, 0.0
    for seed, batch_size in enumerate(CHECK_BATCHES, start=1):
        example = probe_inputs(inputs, batch_size, seed)
        expected = output_tensors(module, example)
        for mine, theirs in zip(run_session(session, example), expected, strict=True):
            theirs_array = theirs.numpy()
            if mine.shape != theirs_array.shape:
                raise ExportError(
                    f"onnxruntime returns shape {mine.shape}, PyTorch {theirs_array.shape}; report this model"
                )
            # NaN must not pass: max() would drop it.
            difference = float(np.maximum(difference, np.abs(mine - theirs_array).max()))
            largest = max(largest, float(np.abs(theirs_array).max()))
    check = Check(difference, largest, CHECK_BATCHES)
    if not check.passed:
        raise ExportError(
            f"onnxruntime differs from PyTorch by {difference:.1e}, more than {check.tolerance:.1e}; "
            "nothing was written: the exporter misreads this model's forward"
        )
    return check


def open_session(path: Path) -> Any:
    """Return an onnxruntime session on the CPU; raises ExportError if the file can't be read."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ExportError(f"onnxruntime can't run the exported file: {' '.join(str(error).split())[:300]}") from error


def run_session(session: Any, inputs: Sequence[Tensor]) -> list[np.ndarray]:
    """Return the outputs of a session for one batch."""
    feed = {node.name: tensor.numpy() for node, tensor in zip(session.get_inputs(), inputs, strict=True)}
    return list(session.run(None, feed))


@torch.no_grad()
def output_tensors(module: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Return forward's outputs as a list; raises ExportError if they are no tensors."""
    outputs = module(*inputs)
    if isinstance(outputs, dict):
        outputs = tuple(outputs.values())
    listed = list(outputs) if isinstance(outputs, list | tuple) else [outputs]
    if not listed or not all(isinstance(output, Tensor) for output in listed):
        raise ExportError(f"{type(module).__name__}.forward returns no tensors; return a tensor or a tuple of tensors")
    return listed


def probe_inputs(inputs: tuple[Tensor, ...], batch_size: int, seed: int) -> tuple[Tensor, ...]:
    """Return random inputs like the examples: normal noise around floats, integers of the example in another order."""
    generator = torch.Generator().manual_seed(seed)
    probes = []
    for example in inputs:
        rows = torch.randint(len(example), (batch_size,), generator=generator)
        probe = example[rows].clone()
        if probe.is_floating_point():
            probe += torch.randn(probe.shape, generator=generator).to(probe.dtype)
        else:
            probe = probe.flatten()[torch.randperm(probe.numel(), generator=generator)].reshape(probe.shape)
        probes.append(probe)
    return tuple(probes)
