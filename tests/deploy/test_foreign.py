"""Pose models of others: their output forms by hand, their crops, their joints by name."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from onnx import TensorProto
from onnx_fixture import write_constant_model, write_node_model

from vipnas.data.crops.images import read_image
from vipnas.data.formats.skeletons import COCO_17
from vipnas.deploy.description import find_description, preset_names
from vipnas.deploy.detectors import DetectedBoxes, open_detector
from vipnas.deploy.foreign import ForeignPoseModel, open_pose_model
from vipnas.deploy.pose_forms import FORMS, Joints
from vipnas.evaluation.coco_ap import coco_metrics
from vipnas.evaluation.metrics import Metrics
from vipnas.files import parse

INPUT_HW = (64, 48)
ONE_JOINT = {"name": "dot", "joints": ["dot"], "flip_pairs": [], "sigmas": [0.1]}


def f32(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def joints(name: str, outputs: Mapping[str, np.ndarray], num: int = 2, **options: Any) -> Joints:
    """Those of one crop."""
    return parse(FORMS[name], options, "test").joints(outputs, INPUT_HW, 1, num)


# Output forms


def test_coordinates_as_by_movenet() -> None:
    output = f32(1, 1, 2, 3)
    output[0, 0] = [(0.5, 0.25, 0.75), (1, 0, 0.5)]
    found = joints("coordinates", {"out": output}, columns=["y", "x", "score"])
    np.testing.assert_allclose(found.xy, [[(12, 32), (0, 64)]])
    np.testing.assert_allclose(found.scores, [(0.75, 0.5)])


def test_coordinates_in_pixels_with_logits_and_columns_to_ignore() -> None:
    output = np.array([[12, 32, 7, math.log(3), 0, 64, 7, 0]], np.float32)  # (1, 8)
    columns = ["x", "y", "ignored", "score"]
    found = joints(
        "coordinates", {"out": output}, columns=columns, normalised=False, activation="sigmoid"
    )
    np.testing.assert_allclose(found.xy, [[(12, 32), (0, 64)]])
    np.testing.assert_allclose(found.scores, [(0.75, 0.5)])


def test_coordinates_without_scores_score_one() -> None:
    found = joints("coordinates", {"out": f32(1, 2, 2)}, columns=["x", "y"])
    assert found.scores.tolist() == [[1, 1]]


@pytest.mark.parametrize(("codec", "x"), [("quarter", 4 * 5.25), ("udp", 47 / 11 * 5.25)])
def test_heatmaps(codec: str, x: float) -> None:
    maps = f32(1, 2, 16, 12)
    columns, rows_ = np.arange(12), np.arange(16)[:, None]
    maps[0, 1] = np.exp(-((columns - 5.25) ** 2 + (rows_ - 8) ** 2) / 8)
    found = joints("heatmaps", {"out": maps}, codec=codec)
    y = {"quarter": 32, "udp": 63 / 15 * 8}[codec]
    np.testing.assert_allclose(found.xy[0, 1], (x, y), atol=0.05)
    assert found.scores[0, 1] == pytest.approx(maps.max())


def test_simcc() -> None:
    outputs = {"simcc_x": f32(1, 2, 96), "simcc_y": f32(1, 2, 128)}
    outputs["simcc_x"][0, 1, 25], outputs["simcc_y"][0, 1, 63] = 0.75, 0.5
    found = joints("simcc", outputs)
    np.testing.assert_allclose(found.xy[0, 1], (12.5, 31.5))
    assert found.scores[0].tolist() == [0, 0.5]


@pytest.mark.parametrize(
    ("name", "options", "outputs", "expected"),
    [
        ("coordinates", {}, {"a": f32(1, 17, 3)}, r"one \(1, 2, 3\), got a \(1, 17, 3\)"),
        ("coordinates", {}, {"a": f32(1, 2, 3), "b": f32(1)}, r"one \(1, 2, 3\)"),
        ("coordinates", {}, {"a": f32(1, 2, 3) + 40}, "in 0..1 of the input, got 40 to 40"),
        ("heatmaps", {}, {"a": f32(1, 17, 16, 12)}, r"one \(1, 2, height, width\)"),
        ("heatmaps", {}, {"a": f32(1, 2, 3)}, r"one \(1, 2, height, width\)"),
        ("simcc", {}, {"a": f32(1, 2, 96)}, r"x \(1, 2, 48 x split\) and y \(1, 2, 64 x split\)"),
        ("simcc", {}, {"a": f32(1, 2, 128), "b": f32(1, 2, 96)}, r"x \(1, 2, 48 x split\)"),
        ("simcc", {}, {"a": f32(1, 3, 96), "b": f32(1, 3, 128)}, r"x \(1, 2, 48 x split\)"),
    ],
)
def test_outputs_of_another_form_are_one_line(
    name: str, options: dict[str, Any], outputs: dict[str, np.ndarray], expected: str
) -> None:
    with pytest.raises(ValueError, match=f"outputs: expected .*{expected}"):
        joints(name, outputs, **options)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [(["x", "score"], "x and y once"), (["x", "y", "score", "score"], "one score")],
)
def test_columns_that_are_no_joint_are_refused(columns: list[str], expected: str) -> None:
    with pytest.raises(ValueError, match=f"columns: expected {expected}"):
        joints("coordinates", {}, columns=columns)


# Whole models


def write_dot_finder(folder: Path, batch: int | str = "batch", **values: Any) -> Path:
    """A model of one joint, whose heatmap is the mean of the colours, and its description."""
    write_node_model(
        folder / "dot.onnx",
        "ReduceMean",
        (batch, 1, *INPUT_HW),
        (batch, 3, *INPUT_HW),
        keepdims=1,
        axes=[1],
    )
    (folder / "skeleton.yaml").write_text(yaml.safe_dump(ONE_JOINT))
    path = folder / "dot.yaml"
    description = {
        "model": "dot.onnx",
        "input": {"colour": "rgb", "std": [255, 255, 255]},
        "output": {"form": "heatmaps"},
        "skeleton": "skeleton.yaml",  # beside the description
    }
    path.write_text(yaml.safe_dump({**description, **values}))
    return path


def spotted(*centres_xy: tuple[int, int]) -> np.ndarray:
    """A dark image with bright spots, the brightest in their middle."""
    y, x = np.mgrid[:200, :300]
    spots = [255 * np.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / 32) for at_x, at_y in centres_xy]
    grey = np.sum(spots, axis=0) if spots else np.zeros((200, 300))
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize("batch", [1, "batch"])
@pytest.mark.parametrize(
    "values",
    [{}, {"aspect": "stretch"}, {"output": {"form": "heatmaps", "codec": "udp"}}],
    ids=["extend", "stretch", "udp"],
)
def test_a_dot_is_found_where_it_is(
    tmp_path: Path, values: dict[str, Any], batch: int | str
) -> None:
    model = open_pose_model(str(write_dot_finder(tmp_path, batch, **values)))
    image = spotted((60, 90), (250, 40))
    boxes = np.array([(40.0, 60, 100, 110), (230, 20, 260, 100), (30, 60, 110, 130)])
    keypoints, scores = model.find(image, boxes)
    np.testing.assert_allclose(keypoints[:, 0], [(60, 90), (250, 40), (60, 90)], atol=0.75)
    assert scores.shape == (3, 1) and scores.dtype == np.float32 and (scores > 0.9).all()
    assert keypoints.dtype == np.float64


def test_the_crop_is_the_box_enlarged(tmp_path: Path) -> None:
    """A dot outside the box is seen only where the padding reaches it."""
    path = str(write_dot_finder(tmp_path))
    box = np.array([(100.0, 50, 148, 114)])  # of the input's ratio
    image = spotted((94, 80))  # 6 pixels of 48 outside: within 1.25, not within 1
    for padding, is_seen in ((None, True), (1.25, True), (1.0, False)):
        model = open_pose_model(path, box_padding=padding)
        _, scores = model.find(image, box)
        assert (scores[0, 0] > 0.5) == is_seen


def test_nobody_is_nobody(tmp_path: Path) -> None:
    model = open_pose_model(str(write_dot_finder(tmp_path)))
    poses = model.predict(spotted(), np.empty((0, 4)))
    assert (poses.keypoints.shape, poses.scores.shape, poses.boxes_xyxy.shape) == (
        (0, 1, 2),
        (0, 1),
        (0, 4),
    )


def reordered(folder: Path, names: list[str], **values: Any) -> ForeignPoseModel:
    """A model whose joint n, in the order of `names`, is at x = n percent of the crop."""
    output = f32(1, len(names), 3)
    output[0, :, 0] = np.arange(len(names)) / 100
    write_constant_model(folder / "model.onnx", {"out": output})
    description = {
        "model": "model.onnx",
        "input": {"colour": "rgb"},
        "output": {"form": "coordinates"},
        "skeleton": "coco_17",
        "joints": names,
        **values,
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(description))
    return open_pose_model(str(folder / "model.onnx"))


def test_joints_are_mapped_by_name_and_others_left_out(tmp_path: Path) -> None:
    names = ["pelvis", *reversed(COCO_17.joints), "neck"]
    model = reordered(tmp_path, names, box_padding=1)
    keypoints, scores = model.find(spotted(), np.array([(0.0, 0, 100, 100)]))
    np.testing.assert_allclose(keypoints[0, :, 0], np.arange(17, 0, -1), atol=1e-4)
    assert model.skeleton == COCO_17 and scores.shape == (1, 17)


def test_a_joint_that_the_model_has_not_is_refused(tmp_path: Path) -> None:
    names = [name.replace("left_ear", "left_er") for name in COCO_17.joints]
    with pytest.raises(ValueError, match="joints: skeleton coco_17: .*did you mean 'left_er'"):
        reordered(tmp_path, names)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"skeleton": "coco"}, "yaml: skeleton: expected a file or a shipped skeleton, got 'coco'"),
        ({"box_padding": 0}, "box_padding: expected a number above 0, got 0"),
        ({"aspect": "square"}, "aspect: expected .*, got 'square'"),
        ({"output": {"form": "simc"}}, "output: form: .*did you mean 'simcc'"),
        ({"output": {"form": "simcc"}}, r"dot\.onnx \(.*dot\.yaml\): outputs: expected x"),
        ({"output": {"form": "heatmaps", "codec": "argmax"}}, "codec: expected .*, got 'argmax'"),
        ({"joints": ["dot", "neck"]}, r"outputs: expected one \(1, 2, height, width\)"),
    ],
)
def test_mistakes_in_descriptions_are_one_line(
    tmp_path: Path, values: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ValueError, match=expected) as refused:
        open_pose_model(str(write_dot_finder(tmp_path, **values)))
    assert "\n" not in str(refused.value)


def test_a_batch_of_its_own_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a batch of 1 or of any size, got 4"):
        open_pose_model(str(write_dot_finder(tmp_path, 4)))


PRESET_OUTPUTS: dict[str, dict[str, np.ndarray]] = {
    "mmpose-heatmaps": {"output": f32(1, 17, 16, 12)},
    "movenet": {"output_0": f32(1, 1, 17, 3)},
    "rtmpose": {"simcc_x": f32(1, 17, 96), "simcc_y": f32(1, 17, 128)},
    "vitpose": {"output": f32(1, 17, 16, 12)},
}


@pytest.mark.parametrize("preset", preset_names("poses"))
def test_every_preset_takes_the_outputs_that_its_models_have(tmp_path: Path, preset: str) -> None:
    is_last = find_description("poses", f"{preset}:x").values["input"].get("layout") == "nhwc"
    shape, kind = ((1, *INPUT_HW, 3), TensorProto.INT32) if is_last else ((1, 3, *INPUT_HW), 1)
    path = write_constant_model(tmp_path / "m.onnx", PRESET_OUTPUTS[preset], shape, kind)
    keypoints, _ = open_pose_model(f"{preset}:{path}").find(spotted(), np.array([(0, 0, 9, 9)]))
    assert keypoints.shape == (1, 17, 2)


# Real models


@pytest.fixture(scope="module")
def photographs(vipnas_data: Path) -> tuple[dict[str, Any], Path]:
    folder = vipnas_data / "coco_sample"
    truth = json.loads((folder / "person_keypoints_train2017.json").read_text())
    return truth, folder / "train2017"


def pose_ap(
    photographs: tuple[dict[str, Any], Path],
    model: ForeignPoseModel,
    boxes_of: Callable[[dict[str, Any], np.ndarray], DetectedBoxes],
) -> Metrics:
    """By persons' scores that are the mean of the joints' times the box's."""
    truth, folder = photographs
    results = []
    for image in truth["images"]:
        pixels = read_image(folder / image["file_name"])
        boxes = boxes_of(image, pixels)
        keypoints, scores = model.find(pixels, boxes.boxes_xyxy)
        for xy, scores_K, score in zip(keypoints, scores, boxes.scores.tolist(), strict=True):
            result = {
                "image_id": image["id"],
                "category_id": 1,
                "keypoints": np.column_stack((xy, scores_K)).ravel().tolist(),
                "score": float(scores_K.mean()) * score,
            }
            results.append(result)
    return coco_metrics(truth, results, COCO_17)


@pytest.mark.slow
def test_thunder_on_labelled_boxes(
    photographs: tuple[dict[str, Any], Path], models_folder: Path
) -> None:
    def labelled(image: dict[str, Any], _: np.ndarray) -> DetectedBoxes:
        boxes = np.array(
            [
                one["bbox"]
                for one in photographs[0]["annotations"]
                if one["image_id"] == image["id"] and one["num_keypoints"] and not one["iscrowd"]
            ],
            np.float64,
        ).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        return DetectedBoxes(boxes, np.ones(len(boxes), np.float32))

    spec = f"movenet:{models_folder / 'movenet-thunder.onnx'}"
    metrics = pose_ap(photographs, open_pose_model(spec, box_padding=1.1), labelled)
    assert metrics.ap == pytest.approx(0.508, abs=0.01)
    assert metrics.ap50 == pytest.approx(0.703, abs=0.01)


@pytest.mark.slow
def test_thunder_after_nanodet(
    photographs: tuple[dict[str, Any], Path], models_folder: Path
) -> None:
    detect = open_detector(f"nanodet:{models_folder / 'nanodet.onnx'}")
    model = open_pose_model(f"movenet:{models_folder / 'movenet-thunder.onnx'}")
    metrics = pose_ap(photographs, model, lambda _, pixels: detect(pixels))
    assert metrics.ap == pytest.approx(0.441, abs=0.01)
    assert metrics.ap50 == pytest.approx(0.605, abs=0.01)
