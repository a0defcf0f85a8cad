"""Networks as ONNX models, for all runtimes that read them.

The libraries belong to the extra `vipnas[export]` and are imported when they are used.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vipnas.runtimes.onnxruntime import OPSET
from vipnas.runtimes.runtime import WriteSettings

CALIBRATION_BATCH = 16
# The height and the width of (N, C, H, W), as axes may name them.
SPATIAL_AXES = ((2, 3), (-2, -1), (-1, -2), (3, 2))


def file_content(module: nn.Module, inputs: Mapping[str, Tensor], settings: WriteSettings) -> bytes:
    """Return the model that an exported file holds: for any batch size, in float32 or int8."""
    model = to_onnx(module, inputs, settings.output_name, settings.notes)
    if settings.precision != "int8":
        return model
    assert settings.calibration is not None
    return quantise(model, next(iter(inputs)), settings.calibration)


def quick_model(module: nn.Module, inputs: Mapping[str, Tensor], precision: str) -> bytes:
    """Return a model for timing: of the inputs' batch size, int8 scaled by the inputs."""
    model = to_onnx_quickly(module, inputs)
    if precision != "int8":
        return model
    name, images = next(iter(inputs.items()))
    return quantise(model, name, images.numpy())


def to_onnx(
    module: nn.Module, inputs: Mapping[str, Tensor], output_name: str, notes: Mapping[str, str]
) -> bytes:
    """Return a serialised model for any batch size, in the form that is shipped.

    Args:
        module: In evaluation mode.
        inputs: Examples by name. Their batch size must not be 1, which would become a constant.
        output_name: The name of the one output.
        notes: Kept in the file.
    """
    import onnx

    batch = torch.export.Dim("batch", min=1)
    shapes = torch.export.ShapesCollection()
    for value in inputs.values():
        shapes[value] = {0: batch}
    arguments = tuple(inputs.values())
    with _quiet("torch.onnx"), torch.no_grad():
        program = torch.onnx.export(
            module,
            arguments,
            input_names=list(inputs),
            output_names=[output_name],
            dynamic_shapes=shapes.dynamic_shapes(module, arguments),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    graph = model.graph
    _pool_globally(graph)
    # The exporter's remarks on every node hold paths of this machine.
    tensors = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for noted in (graph, *graph.node, *tensors):
        del noted.metadata_props[:]
        noted.doc_string = ""
    onnx.helper.set_model_props(model, dict(notes))
    onnx.checker.check_model(model, full_check=True)
    serialised: bytes = model.SerializeToString()
    return serialised


def _pool_globally(graph: Any) -> None:
    """Turn means over height and width into GlobalAveragePool, which runtimes run faster.

    The exporter writes `adaptive_avg_pool2d(x, 1)` as a mean. ONNX Runtime then leaves its blocked
    layout before each and returns to it after.
    """
    import onnx

    axes_of = {
        tensor.name: tuple(onnx.numpy_helper.to_array(tensor).tolist())
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.INT64 and list(tensor.dims) == [2]
    }
    for node in graph.node:
        keeps_dims = all(item.i == 1 for item in node.attribute if item.name == "keepdims")
        if (
            node.op_type == "ReduceMean"
            and keeps_dims
            and axes_of.get(node.input[-1]) in SPATIAL_AXES
        ):
            node.op_type = "GlobalAveragePool"
            del node.input[1:], node.attribute[:]
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name in axes_of]:
        if tensor.name not in used:
            graph.initializer.remove(tensor)


def to_onnx_quickly(module: nn.Module, inputs: Mapping[str, Tensor]) -> bytes:
    """Return an ONNX model of exactly the inputs' shapes, for timing.

    The older exporter takes a tenth of the time or less. Once a runtime has optimised them, the
    operations are those of `to_onnx`. Constants are not folded, because runtimes do that.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # its deprecation, and shapes taken for constants
        torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            buffer,  # type: ignore[arg-type]
            dynamo=False,
            do_constant_folding=False,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=["heatmaps"],
        )
    return buffer.getvalue()


def quantise(model: bytes, input_name: str, images: np.ndarray) -> bytes:
    """Quantise a model after training, statically.

    Convolutions compute in 8-bit integers, scaled by the range of their inputs over `images`.
    Everything else stays in float, deconvolutions too, which ONNX Runtime has no integers for.

    Weights are scaled for each output channel, and have 7 bits: with 8, processors without VNNI
    overflow in the sum of two products.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Gives one batch by input name at a time, then None."""

        def __init__(self) -> None:
            starts = range(0, len(images), CALIBRATION_BATCH)
            self.batches = (images[start : start + CALIBRATION_BATCH] for start in starts)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {input_name: batch}

    with _quiet(None), TemporaryDirectory() as folder:
        whole, folded, quantised = (Path(folder) / f"{name}.onnx" for name in ("a", "b", "c"))
        whole.write_bytes(model)
        # Batch norm folds into the convolution before it.
        quant_pre_process(str(whole), str(folded), skip_symbolic_shape=True)
        quantize_static(
            str(folded),
            str(quantised),
            Reader(),
            op_types_to_quantize=["Conv"],
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        result = onnx.load(str(quantised))
    notes = {note.key: note.value for note in onnx.load_from_string(model).metadata_props}
    onnx.helper.set_model_props(result, notes)
    serialised: bytes = result.SerializeToString()
    return serialised


@contextmanager
def _quiet(logger: str | None) -> Iterator[None]:
    """Silence the warnings of the libraries about each other; errors are still shown."""
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
