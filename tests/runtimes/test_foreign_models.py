"""ONNX models with any outputs, in every runtime of the table that opens them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from errors_fixture import refused
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx_fixture import write_constant_model, write_node_model

from vipnas.runtimes.foreign import open_foreign
from vipnas.runtimes.runtime import RunSettings, TensorFacts
from vipnas.runtimes.table import RUNTIMES

ABLE = [name for name, runtime in RUNTIMES.items() if runtime.open_foreign is not None]


@pytest.fixture(params=ABLE)
def runtime(request: pytest.FixtureRequest) -> str:
    for package in RUNTIMES[request.param].packages:
        pytest.importorskip(package)
    return str(request.param)


def test_outputs_have_their_names_and_the_order_of_the_model(tmp_path: Path, runtime: str) -> None:
    outputs: dict[str, NDArray[Any]] = {"z": np.ones((1, 2, 3), np.float32), "a": np.arange(4)}
    model = open_foreign(write_constant_model(tmp_path / "two.onnx", outputs), runtime)
    found = model.run({"image": np.zeros((1, 3, 64, 64), np.float32)})
    assert list(found) == ["z", "a"]
    for name, expected in outputs.items():
        np.testing.assert_array_equal(found[name], expected)
        assert found[name].dtype == expected.dtype


def test_no_later_run_changes_an_output(tmp_path: Path, runtime: str) -> None:
    path = write_node_model(tmp_path / "same.onnx", "Relu", (1, 3, 64, 64))
    model = open_foreign(path, runtime)
    first, second = (
        model.run({"image": np.full((1, 3, 64, 64), value, np.float32)})["found"]
        for value in (1, 2)
    )
    assert (first == 1).all() and (second == 2).all()


def test_inputs_are_those_that_the_model_declares(tmp_path: Path, runtime: str) -> None:
    shape = ("batch", 8, "width", 3)
    path = write_node_model(tmp_path / "any.onnx", "Abs", shape, shape, TensorProto.INT32)
    (facts,) = open_foreign(path, runtime).inputs
    assert facts == TensorFacts("image", (None, 8, None, 3), "int32")


def test_what_a_library_refuses_is_one_line(tmp_path: Path, runtime: str) -> None:
    model = open_foreign(write_node_model(tmp_path / "a.onnx", "Abs", (1, 3, 64, 64)), runtime)
    with refused(str(tmp_path / "a.onnx"), f"a model that {runtime} can run"):
        model.run({"image": np.zeros((1, 3, 32, 64), np.float32)})
    (tmp_path / "none.onnx").write_bytes(b"no model")
    with refused(str(tmp_path / "none.onnx"), f"a model that {runtime} can open"):
        open_foreign(tmp_path / "none.onnx", runtime)


def test_runtimes_that_open_no_such_models_and_absent_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="runtime: expected one of onnxruntime, openvino"):
        open_foreign(tmp_path / "a.onnx", "torch")
    with refused(str(tmp_path / "a.onnx"), "a file", "no such file"):
        open_foreign(tmp_path / "a.onnx")
    with pytest.raises(ValueError, match="device: expected one of cpu, cuda"):
        write_node_model(tmp_path / "a.onnx", "Abs", (1, 3, 64, 64))
        open_foreign(tmp_path / "a.onnx", settings=RunSettings(device="tpu"))


def test_operations_on_constants_are_folded_where_a_runtime_refuses_them(
    tmp_path: Path, runtime: str
) -> None:
    """TensorFlow's SparseToDense of no elements, as exporters write it: OpenVINO refuses it."""
    constants = {
        "zero": np.array(0.0, np.float32),
        "shape": np.array([3]),
        "indices": np.empty((0, 1), np.int64),
        "updates": np.empty(0, np.float32),
    }
    nodes = [
        helper.make_node("Expand", ["zero", "shape"], ["zeros"]),
        helper.make_node("ScatterND", ["zeros", "indices", "updates"], ["scattered"]),
        helper.make_node("Add", ["image", "scattered"], ["found"]),
    ]
    image, found = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, (2, 3))
        for name in ("image", "found")
    )
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "sparse", [image], [found], initializers)
    opset = helper.make_opsetid("", 15)
    path = tmp_path / "sparse.onnx"
    path.write_bytes(
        helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()
    )
    pixels = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(
        open_foreign(path, runtime).run({"image": pixels})["found"], pixels
    )
