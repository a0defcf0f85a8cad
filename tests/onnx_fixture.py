"""Small ONNX models whose outputs are known by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17


def write_constant_model(
    path: Path,
    outputs: Mapping[str, np.ndarray],
    input_shape: Sequence[int | str] = (1, 3, 64, 64),
    input_type: int = TensorProto.FLOAT,
) -> Path:
    """A model that gives the same outputs for every image."""
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array))
        for name, array in outputs.items()
    ]
    declared = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in outputs.items()
    ]
    return _write(path, nodes, declared, input_shape, input_type)


def write_node_model(
    path: Path,
    operation: str,
    output_shape: Sequence[int | str],
    input_shape: Sequence[int | str] = (1, 3, 64, 64),
    input_type: int = TensorProto.FLOAT,
    **attributes: Any,
) -> Path:
    """A model of one operation, from `image` to `found`."""
    node = helper.make_node(operation, ["image"], ["found"], **attributes)
    declared = helper.make_tensor_value_info("found", input_type, output_shape)
    return _write(path, [node], [declared], input_shape, input_type)


def _write(
    path: Path,
    nodes: list[onnx.NodeProto],
    outputs: list[onnx.ValueInfoProto],
    input_shape: Sequence[int | str],
    input_type: int,
) -> Path:
    image = helper.make_tensor_value_info("image", input_type, input_shape)
    graph = helper.make_graph(nodes, "made by hand", [image], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    return path
