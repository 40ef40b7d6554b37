"""Submodels as files for devices: ONNX, checked, with a manifest."""

from fedlight.export.bundle import export_submodel
from fedlight.export.onnx_model import ExportError

__all__ = ["ExportError", "export_submodel"]
