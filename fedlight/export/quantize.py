"""Static int8 quantisation of an ONNX file, and what it costs in agreement with float32."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from torch import Tensor

from fedlight.export.onnx_model import ExportError, open_session, run_session
from fedlight.export.quiet import silenced

MAX_CALIBRATION_EXAMPLES = 512
"""Examples that set the ranges of activations; more change them little."""


@final
@dataclass(frozen=True)
class Int8Result:
    """What quantisation did, on the calibration examples.

    Attributes:
        num_bytes: size of the quantised file.
        relative_difference: ‖int8 - float32‖ / ‖float32‖ of the outputs.
        max_difference: largest |int8 - float32|.
        mean_difference: mean |int8 - float32|.
        agreement: share of examples with the same largest output, in [0, 1]; None where outputs are no classes.
        num_examples: calibration examples.
    """

    num_bytes: int
    relative_difference: float
    max_difference: float
    mean_difference: float
    agreement: float | None
    num_examples: int


def quantize_onnx(
    source: Path, target: Path, batches: Sequence[tuple[Tensor, ...]], classifies: bool = False
) -> Int8Result:
    """Quantise to int8 (QDQ nodes, weights per channel, activations unsigned) and compare to the float32 file.

    Args:
        source: float32 ONNX file.
        target: file to write.
        batches: calibration inputs, at least one batch.
        classifies: whether the first output is one score per class.

    Raises:
        ExportError: there is nothing to calibrate on, or the quantiser can't handle the graph.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    batches = _limited(batches)
    if not batches:
        raise ExportError(
            "--int8 needs examples to calibrate on; set data.server_fraction or data.validation_fraction > 0"
        )
    session = open_session(source)
    names = [node.name for node in session.get_inputs()]
    prepared = target.with_suffix(".prepared.onnx")
    try:
        with silenced():
            quant_pre_process(source, prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared,
                target,
                _reader(names, batches),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ExportError(f"onnxruntime can't quantise this model: {reason}; export without --int8") from error
    finally:
        prepared.unlink(missing_ok=True)
    exact = np.concatenate([run_session(session, batch)[0] for batch in batches])
    rounded_session = open_session(target)
    rounded = np.concatenate([run_session(rounded_session, batch)[0] for batch in batches])
    norm, difference = float(np.linalg.norm(exact)), np.abs(rounded - exact)
    return Int8Result(
        num_bytes=os.path.getsize(target),
        relative_difference=float(np.linalg.norm(difference)) / norm if norm else 0.0,
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        agreement=float((rounded.argmax(-1) == exact.argmax(-1)).mean()) if classifies else None,
        num_examples=sum(len(batch[0]) for batch in batches),
    )


def _limited(batches: Sequence[tuple[Tensor, ...]]) -> list[tuple[Tensor, ...]]:
    """Return the first batches, at most :data:`MAX_CALIBRATION_EXAMPLES` examples in all."""
    kept: list[tuple[Tensor, ...]] = []
    left = MAX_CALIBRATION_EXAMPLES
    for batch in batches:
        if left <= 0:
            break
        kept.append(tuple(tensor[:left] for tensor in batch))
        left -= len(batch[0])
    return kept


def _reader(names: Sequence[str], batches: Sequence[tuple[Tensor, ...]]) -> Any:
    """Return the batches as onnxruntime's calibration reads them."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._feeds = iter(
                [{name: tensor.numpy() for name, tensor in zip(names, batch, strict=True)} for batch in batches]
            )

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._feeds, None)

    return Reader()
