"""Models of others, as small as can be: a detector of one box, and a pose model of one joint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 10
INPUT_SHAPE = (1, 3, 64, 64)
BOX = (8.0, 8.0, 56.0, 56.0, 0.9, 0.0)  # corners, score, class
INPUT = {"colour": "rgb", "std": [255, 255, 255]}
ONE_JOINT = {"name": "one_joint", "joints": ["dot"], "flip_pairs": [], "sigmas": [0.1]}


def make_foreign_models(folder: Path) -> None:
    """Write `detector.onnx`, `pose.onnx` and their descriptions."""
    folder.mkdir()
    box = numpy_helper.from_array(np.array([[BOX]], np.float32))
    constant = helper.make_node("Constant", [], ["found"], value=box)
    _write_model(folder / "detector.onnx", constant, (1, 1, len(BOX)))
    mean = helper.make_node("ReduceMean", ["image"], ["found"], keepdims=1, axes=[1])
    _write_model(folder / "pose.onnx", mean, (1, 1, 64, 64))
    detector = {"model": "detector.onnx", "input": INPUT, "output": {"form": "end_to_end"}}
    pose = {"model": "pose.onnx", "input": INPUT, "output": {"form": "heatmaps"}}
    pose |= {"skeleton": "skeleton.yaml"}
    documents = {"detector": detector, "pose": pose, "skeleton": ONE_JOINT}
    for name, document in documents.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(document))


def _write_model(path: Path, node: onnx.NodeProto, shape: tuple[int, ...]) -> None:
    image, found = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, of)
        for name, of in (("image", INPUT_SHAPE), ("found", shape))
    )
    graph = helper.make_graph([node], "by hand", [image], [found])
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    path.write_bytes(model.SerializeToString())
