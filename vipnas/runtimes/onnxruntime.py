"""ONNX Runtime: `.onnx` files, computed as they say."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from vipnas.errors import UserError
from vipnas.runtimes.runtime import (
    FileFormat,
    ForeignModel,
    RunSettings,
    Runtime,
    Session,
    TensorFacts,
    WriteSettings,
)

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

# It has hard swish and layer norm, the newest operators in use. Newer ones shut out runtimes.
OPSET = 18
PRECISIONS = ("fp32", "fp16", "int8")
# ONNX Runtime's names of types that NumPy calls otherwise.
NUMPY_NAMES = {"float": "float32", "double": "float64"}


def version() -> str:
    """Return the version of ONNX Runtime."""
    RUNTIME.check_installed()
    return importlib.metadata.version("onnxruntime")


def write(
    module: nn.Module, inputs: Mapping[str, Tensor], path: Path, settings: WriteSettings
) -> None:
    """Write an ONNX model."""
    from vipnas.runtimes import onnx_model
    from vipnas.runtimes.half import HalfInside

    if settings.precision == "fp16":
        module = HalfInside(module)
    path.write_bytes(onnx_model.file_content(module, inputs, settings))


def open_file(path: Path, settings: RunSettings) -> tuple[Session, dict[str, str]]:
    """Open an ONNX file."""
    session = inference_session(path.read_bytes(), settings)
    return _run(session), dict(session.get_modelmeta().custom_metadata_map)


def load(module: nn.Module, inputs: Mapping[str, Tensor], settings: RunSettings) -> Session:
    """Open the module by the quick exporter."""
    from vipnas.runtimes import onnx_model
    from vipnas.runtimes.half import HalfInside

    if settings.precision == "fp16":
        module = HalfInside(module)
    model = onnx_model.quick_model(module, inputs, settings.precision)
    return _run(inference_session(model, settings))


def open_foreign(path: Path, settings: RunSettings) -> ForeignModel:
    """Open an ONNX model of others."""
    # By its path, because weights may be in files beside it.
    session = inference_session(str(path), settings)
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    return ForeignModel(tuple(_facts(one) for one in session.get_inputs()), run)


def _facts(declared: Any) -> TensorFacts:
    sizes = tuple(size if isinstance(size, int) else None for size in declared.shape)
    dtype = declared.type.removeprefix("tensor(").removesuffix(")")
    return TensorFacts(declared.name, sizes, NUMPY_NAMES.get(dtype, dtype))


def inference_session(model: bytes | str, settings: RunSettings) -> Any:
    """Return an `onnxruntime.InferenceSession` that keeps to the threads of the settings.

    Args:
        model: A serialised model, or the path of one.
        settings: How it computes.
    """
    RUNTIME.check(settings.precision, settings.device)
    RUNTIME.check_installed()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    # Spinning threads would take the core from the session that runs next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[settings.device]
    available = onnxruntime.get_available_providers()
    if provider not in available:
        expected, found = f"an onnxruntime with {provider}", f"one with {', '.join(available)}"
        raise UserError(f"device {settings.device}", expected, found)
    return onnxruntime.InferenceSession(model, options, providers=[provider])


def folded(path: Path) -> bytes:
    """Return an ONNX model in which all that depends on no input is a constant."""
    RUNTIME.check_installed()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    # Beyond this level, operations are no longer those of ONNX.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        target = Path(folder) / "folded.onnx"
        options.optimized_model_filepath = str(target)
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return target.read_bytes()


def _run(session: Any) -> Session:
    def run(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        found: np.ndarray = session.run(None, dict(inputs))[0]
        return found

    return run


RUNTIME = Runtime(
    "onnxruntime",
    PRECISIONS,
    version,
    load,
    FileFormat(
        "onnx",
        ".onnx",
        PRECISIONS,
        write,
        open_file,
        packages=("onnx", "onnxscript"),
        detail=f"opset {OPSET}",
    ),
    extra="export",
    packages=("onnxruntime",),
    devices=("cpu", "cuda"),
    open_foreign=open_foreign,
)
