"""OpenVINO: `.xml` files with their weights in a `.bin`, on the CPU."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

# The precision of what is float32 in a model. Left alone, OpenVINO takes bf16 where the processor
# has it. A model in int8 says itself which operations are not float32.
HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}


def version() -> str:
    """Return the version of OpenVINO."""
    RUNTIME.check_installed()
    return importlib.metadata.version("openvino")


@cache
def core() -> Any:
    """Return the one `openvino.Core` of this process.

    Every core moves the signal stack of its thread and frees it at its end. If cores end in another
    order than they began, the thread keeps a freed stack, and the next signal ends the process.
    """
    RUNTIME.check_installed()
    import openvino

    return openvino.Core()


def write(
    module: nn.Module, inputs: Mapping[str, Tensor], path: Path, settings: WriteSettings
) -> None:
    """Write a model. In fp16 only the weights are stored; it computes as it is opened."""
    import openvino

    from vipnas.runtimes import onnx_model

    model = core().read_model(onnx_model.file_content(module, inputs, settings))
    for name, note in settings.notes.items():
        model.set_rt_info(note, name)
    openvino.save_model(model, path, compress_to_fp16=settings.precision == "fp16")


def open_file(path: Path, settings: RunSettings) -> tuple[Session, dict[str, str]]:
    """Open an OpenVINO file."""
    model, run = open_model(path, settings)
    names = [name for name in model.get_rt_info() if name.startswith("vipnas")]
    return run, {name: str(model.get_rt_info(name).astype(str)) for name in names}


def load(module: nn.Module, inputs: Mapping[str, Tensor], settings: RunSettings) -> Session:
    """Open the module by the quick exporter."""
    from vipnas.runtimes import onnx_model

    model = onnx_model.quick_model(module, inputs, settings.precision)
    return open_model(model, settings)[1]


def open_foreign(path: Path, settings: RunSettings) -> ForeignModel:
    """Open an ONNX model of others."""
    RUNTIME.check(settings.precision, settings.device)
    from vipnas.runtimes import onnxruntime

    try:
        model = core().read_model(path)
    except RuntimeError as error:
        if "OpConversionFailure" not in str(error):
            raise
        # It refuses operations on constants, such as a ScatterND of no elements, that ONNX allows.
        model = core().read_model(onnxruntime.folded(path))
    request = core().compile_model(model, "CPU", _properties(settings)).create_infer_request()
    names = [output.get_any_name() for output in model.outputs]

    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = request.infer(dict(inputs), share_inputs=True)
        return {name: found[number] for number, name in enumerate(names)}

    return ForeignModel(tuple(_facts(value) for value in model.inputs), run)


def _facts(value: Any) -> TensorFacts:
    sizes = (size.get_length() if size.is_static else None for size in value.get_partial_shape())
    dtype = value.get_element_type().to_dtype()
    return TensorFacts(value.get_any_name(), tuple(sizes), dtype.name)


def open_model(model: bytes | Path, settings: RunSettings) -> tuple[Any, Session]:
    """Return the `openvino.Model` of an ONNX model or of a file, and its session.

    Heatmaps leave OpenVINO with the channels last, as they are inside, and are transposed here:
    OpenVINO's own conversion takes longer.
    """
    RUNTIME.check(settings.precision, settings.device)
    RUNTIME.check_installed()
    import openvino

    read = core().read_model(model)
    if settings.batch is not None:
        shapes = {value: value.get_partial_shape() for value in read.inputs}
        read.reshape({value: [settings.batch, *list(s)[1:]] for value, s in shapes.items()})
    has_maps = read.output().get_partial_shape().rank == 4
    if has_maps:
        steps = openvino.preprocess.PrePostProcessor(read)
        steps.output().model().set_layout(openvino.Layout("NCHW"))
        steps.output().tensor().set_layout(openvino.Layout("NHWC"))
        read = steps.build()
    request = core().compile_model(read, "CPU", _properties(settings)).create_infer_request()

    def run(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        found: np.ndarray = request.infer(dict(inputs), share_inputs=True, share_outputs=True)[0]
        return (found.transpose(0, 3, 1, 2) if has_maps else found).copy(order="C")

    return read, run


def _properties(settings: RunSettings) -> dict[str, Any]:
    return {
        "INFERENCE_NUM_THREADS": settings.threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": HINTS[settings.precision],
        # The caller pins; OpenVINO's own choice of cores would override that.
        "ENABLE_CPU_PINNING": False,
    }


RUNTIME = Runtime(
    "openvino",
    tuple(HINTS),
    version,
    load,
    FileFormat(
        "openvino",
        ".xml",
        ("fp32", "fp16", "int8"),
        write,
        open_file,
        ("onnx", "onnxscript", "onnxruntime"),
    ),
    extra="openvino",
    packages=("openvino",),
    open_foreign=open_foreign,
)
