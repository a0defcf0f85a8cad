"""A module as an ONNX model, and an ONNX model in 8-bit integers. The libraries belong to the extra
`vipnas[export]` and are imported when they are used."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

# Every operator needed is in 18, hard swish and layer norm included; newer ones shut out runtimes.
OPSET = 18
CALIBRATION_BATCH = 16


def check_extra(extra: str, *packages: str) -> None:
    """Raises ValueError in one line, naming the first package that is not installed."""
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError:
            raise ValueError(
                f"this needs the package {package}: install the extra,"
                f" pip install 'vipnas[{extra}]'"
            ) from None


def to_onnx(
    module: nn.Module, inputs: Mapping[str, Tensor], output_name: str, notes: Mapping[str, str]
) -> bytes:
    """A serialised model that takes any batch size; `notes` are kept in the file.

    `inputs` are an example of any batch size but 1, which would be taken for a constant. Without
    the exporter's remarks on every node, which hold paths of this machine.
    """
    import onnx

    batch = torch.export.Dim("batch", min=1)
    with _quiet("torch.onnx"), torch.no_grad():
        program = torch.onnx.export(
            module,
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=[output_name],
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    graph = model.graph
    tensors = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for noted in (graph, *graph.node, *tensors):
        del noted.metadata_props[:]
        noted.doc_string = ""
    onnx.helper.set_model_props(model, dict(notes))
    onnx.checker.check_model(model, full_check=True)
    serialised: bytes = model.SerializeToString()
    return serialised


def quantise(model: bytes, input_name: str, images: np.ndarray) -> bytes:
    """Static quantisation after training: convolutions compute in 8-bit integers, scaled by the
    range that their inputs have over `images`, in the form that the model takes; the rest stays
    float, deconvolutions too, for which ONNX Runtime has no integers.

    Weights are scaled for each output channel, and have 7 bits: with 8, processors that have no
    instruction for products of 8-bit vectors (before VNNI) overflow in the sum of two.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """One batch by input name at a time, then None."""

        def __init__(self) -> None:
            starts = range(0, len(images), CALIBRATION_BATCH)
            self.batches = (images[start : start + CALIBRATION_BATCH] for start in starts)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {input_name: batch}

    with _quiet(None), TemporaryDirectory() as folder:
        whole, folded, quantised = (Path(folder) / f"{name}.onnx" for name in ("a", "b", "c"))
        whole.write_bytes(model)
        # Batch norm goes into the convolution before it.
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
    """Without what the libraries tell of each other and of their future; errors still come."""
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
