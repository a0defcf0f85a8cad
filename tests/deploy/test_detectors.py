"""Detectors: how images enter models, how boxes come back, and what descriptions may say."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from onnx import TensorProto
from onnx_fixture import write_constant_model, write_node_model

from vipnas.data.crops.images import read_image
from vipnas.deploy.candidates import Candidates
from vipnas.deploy.described_model import DescribedModel
from vipnas.deploy.description import ImageInput, find_description, preset_names
from vipnas.deploy.detected_boxes import FIRST_FRAMES
from vipnas.deploy.detectors import Detector, open_detector
from vipnas.deploy.onnx_detector import fit_image, suppress

NUM_CELLS = 84  # of strides 8, 16, 32 on 64 x 64
ROWS = {"input": {"colour": "rgb"}, "output": {"form": "end_to_end"}}


def f32(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def black(height: int, width: int) -> np.ndarray:
    return np.zeros((height, width, 3), np.uint8)


def rows(*detections: tuple[float, ...]) -> np.ndarray:
    return np.array([detections], np.float32)


def write_detector(
    folder: Path, outputs: dict[str, np.ndarray] | np.ndarray, **values: Any
) -> Path:
    """A model of constant outputs and its description: by default an end-to-end one."""
    outputs = outputs if isinstance(outputs, dict) else {"found": outputs}
    write_constant_model(folder / "model.onnx", outputs)
    path = folder / "detector.yaml"
    path.write_text(yaml.safe_dump({"model": "model.onnx", **ROWS, **values}))
    return path


def toy(folder: Path, outputs: dict[str, np.ndarray] | np.ndarray, **values: Any) -> Detector:
    return open_detector(str(write_detector(folder, outputs, **values)))


# Pixels on their way into a model


@pytest.mark.parametrize(
    ("fit", "corner_rgb", "box"),
    [
        # 100 x 50 becomes 64 x 32 of 64 x 64
        ("letterbox", (7, 7, 7), (0, 0, 100, 50)),
        ("letterbox_top_left", (10, 20, 30), (0, 25, 100, 50)),
        ("resize", (10, 20, 30), (0, 12.5, 100, 37.5)),
    ],
)
def test_an_image_is_fitted_and_boxes_are_brought_back(
    fit: str, corner_rgb: tuple[int, ...], box: tuple[float, ...]
) -> None:
    image = np.full((50, 100, 3), (10, 20, 30), np.uint8)
    fitted, view = fit_image(image, (64, 64), fit, 7)
    assert fitted.shape == (64, 64, 3) and tuple(fitted[0, 0]) == corner_rgb
    assert tuple(fitted[-1, 0]) == ((10, 20, 30) if fit == "resize" else (7, 7, 7))
    found = view.to_image(np.array([(0.0, 16, 64, 48)]))
    assert np.clip(found, 0, (100, 50) * 2)[0] == pytest.approx(box)


def test_a_tall_image_is_fitted_too() -> None:
    fitted, view = fit_image(np.full((200, 30, 3), 255, np.uint8), (64, 96), "letterbox", 0)
    assert (fitted[:, :, 0].mean(axis=0) > 0).nonzero()[0].tolist() == list(range(43, 53))
    assert view.to_image(np.array([(43.0, 0, 53, 64)]))[0] == pytest.approx((0, 0, 30, 200))


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_colour_mean_std_and_layout(tmp_path: Path, layout: str) -> None:
    shape = (1, 3, 2, 4) if layout == "nchw" else (1, 2, 4, 3)
    path = write_node_model(tmp_path / "same.onnx", "Identity", shape, shape)
    as_described = ImageInput("bgr", None, (1.0, 2.0, 3.0), (10.0, 20.0, 40.0), layout)  # type: ignore[arg-type]
    model = DescribedModel(path, as_described)
    assert model.input_hw == (2, 4) and model.batch == 1
    images = np.full((1, 2, 4, 3), (103, 82, 21), np.uint8)  # RGB
    found = model.run(images)["found"]
    assert found.shape == shape
    pixel = found[0, :, 1, 2] if layout == "nchw" else found[0, 1, 2]
    np.testing.assert_allclose(pixel, (2, 4, 2.5))


def test_models_of_bytes_get_bytes(tmp_path: Path) -> None:
    shape = ("batch", "height", "width", 3)
    path = write_node_model(tmp_path / "same.onnx", "Identity", shape, shape, TensorProto.UINT8)
    model = DescribedModel(path, ImageInput("rgb", (2, 2), layout="nhwc"))
    images = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
    found = model.run(images)["found"]
    assert found.dtype == np.uint8 and model.batch is None
    np.testing.assert_array_equal(found, images)


# Boxes


def test_boxes_come_back_in_pixels_of_the_image_and_the_best_first(tmp_path: Path) -> None:
    found = rows((0, 16, 32, 48, 0.5, 0), (32, 0, 96, 64, 0.75, 0), (0, 0, 64, 64, 0.2, 0))
    boxes = toy(tmp_path, found)(black(50, 100))
    np.testing.assert_allclose(boxes.boxes_xyxy, [(50, 0, 100, 50), (0, 0, 50, 50)])
    assert boxes.scores.tolist() == [0.75, 0.5] and len(boxes) == 2


def test_the_best_of_boxes_that_overlap_is_kept() -> None:
    boxes = np.array([(0, 0, 10, 10), (1, 0, 11, 10), (6, 0, 16, 10), (0, 0, 10, 10)], float)
    found = Candidates(boxes, np.array([0.6, 0.9, 0.5, 0.1]))
    kept = suppress(found, 0.3, 0.6)  # the first two overlap by 9 / 11, the others by 5 / 15
    np.testing.assert_array_equal(kept.boxes_xyxy, boxes[[1, 2]])
    np.testing.assert_array_equal(kept.scores, (0.9, 0.5))
    assert len(suppress(found, 0.3, 0.2).scores) == 1
    assert len(suppress(found, 0.95, 0.6).scores) == 0
    assert len(suppress(found, 0.9, 0.6).scores) == 1  # the threshold itself is enough


def test_boxes_of_one_person_are_suppressed_in_dense_forms_only(tmp_path: Path) -> None:
    dense = f32(1, 5, NUM_CELLS)
    dense[0, :, 3], dense[0, :, 4] = (32, 32, 16, 16, 0.9), (33, 32, 16, 16, 0.8)
    assert len(toy(tmp_path, dense, output={"form": "yolov8"})(black(64, 64))) == 1
    listed = rows((24, 24, 40, 40, 0.9, 0), (25, 24, 41, 40, 0.8, 0))
    assert len(toy(tmp_path, listed)(black(64, 64))) == 2


def test_the_threshold_is_of_the_description_or_of_the_call(tmp_path: Path) -> None:
    found = rows((0, 0, 9, 9, 0.5, 0), (0, 0, 9, 9, 0.2, 0), (0, 0, 9, 9, 0.1, 0))
    path = write_detector(tmp_path, found, score_threshold=0.15)
    assert len(open_detector(str(path))(black(64, 64))) == 2
    assert len(open_detector(str(path), score_threshold=0.05)(black(64, 64))) == 3


def test_openvino_finds_the_same(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    path = str(write_detector(tmp_path, rows((0, 16, 32, 48, 0.5, 0))))
    first, second = (
        open_detector(path, runtime=name)(black(50, 100)) for name in ("onnxruntime", "openvino")
    )
    np.testing.assert_array_equal(first.boxes_xyxy, second.boxes_xyxy)


# Presets and descriptions

PRESET_OUTPUTS: dict[str, dict[str, np.ndarray]] = {
    "nanodet": {f"{k}{n}": f32(1, n, c) for n in (64, 16, 4) for k, c in (("s", 80), ("d", 44))},
    "nanodet-plus": {"output": f32(1, NUM_CELLS + 1, 80 + 32)},
    "rtmdet": {f"{k}{n}": f32(1, c, n, n) for n in (8, 4, 2) for k, c in (("s", 80), ("d", 4))},
    "rtmdet-mmdeploy": {"labels": np.zeros((1, 9), np.int64), "dets": f32(1, 9, 5)},
    "ssd": {"scores": f32(1, 9, 21), "boxes": f32(1, 9, 4)},
    "ssd-tensorflow": {
        "num_detections:0": f32(1),  # as the ONNX model zoo has them
        "detection_boxes:0": f32(1, 9, 4),
        "detection_scores:0": f32(1, 9),
        "detection_classes:0": f32(1, 9),
    },
    "yolov10": {"output0": f32(1, 300, 6)},
    "yolov5": {"output0": f32(1, 252, 85)},
    "yolov8": {"output0": f32(1, 84, NUM_CELLS)},
    "yolox": {"output": f32(1, NUM_CELLS, 85)},
}


@pytest.mark.parametrize("preset", preset_names("detectors"))
def test_every_preset_takes_the_outputs_that_its_models_have(tmp_path: Path, preset: str) -> None:
    layout = find_description("detectors", f"{preset}:x.onnx").values["input"].get("layout")
    shape, kind = ((1, 64, 64, 3), TensorProto.UINT8) if layout else ((1, 3, 64, 64), 1)
    path = write_constant_model(tmp_path / "m.onnx", PRESET_OUTPUTS[preset], shape, kind)
    assert len(open_detector(f"{preset}:{path}")(black(64, 64))) == 0


def test_a_preset_with_ones_own_values(tmp_path: Path) -> None:
    output = f32(1, 252, 6)
    output[0, 5] = (32, 32, 20, 20, 1, 0.8)
    values = {"preset": "yolov5", "model": "model.onnx", "output": {"activation": "none"}}
    path = write_detector(tmp_path, output)
    path.write_text(yaml.safe_dump(values))
    boxes = open_detector(str(path))(black(64, 64))
    np.testing.assert_allclose(boxes.boxes_xyxy, [(22, 22, 42, 42)])


def test_another_form_takes_no_options_from_the_preset(tmp_path: Path) -> None:
    path = write_detector(tmp_path, rows((0, 0, 64, 64, 0.5, 0)))
    values = {"preset": "nanodet", "model": "model.onnx", "output": {"form": "end_to_end"}}
    path.write_text(yaml.safe_dump(values))
    assert len(open_detector(str(path))(black(64, 64))) == 1


def test_a_description_beside_the_model_is_found(tmp_path: Path) -> None:
    path = write_detector(tmp_path, rows((0, 0, 64, 64, 0.5, 0)))
    path.rename(tmp_path / "model.yaml")
    assert len(open_detector(str(tmp_path / "model.onnx"))(black(64, 64))) == 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"fitt": "resize"}, r"detector\.yaml: .*got 'fitt' \(did you mean 'fit'\?"),
        ({"input": {"colour": "rbg"}}, r"detector\.yaml: input\.colour: expected .*, got 'rbg'"),
        ({"input": {"colour": "rgb", "std": [1, 0, 1]}}, "input.std: expected numbers from 1e-06"),
        ({"input": {"colour": "rgb", "std": [1, 1, 1e39]}}, "input.std: expected numbers from 1e"),
        ({"input": {"colour": "rgb", "mean": [0, 1e39, 0]}}, "input.mean: expected numbers up to"),
        ({"input": {}}, r"input\.colour: expected a value, got none"),
        ({"output": {"form": "yolo8"}}, "output: form: expected one of .*did you mean 'yolov8'"),
        ({"output": {}}, "output: form: expected a name, got None"),
        ({"output": {"form": ["yolox"]}}, r"output: form: expected a name, got \['yolox'\]"),
        ({"output": "yolox"}, "output: expected an object, got 'yolox'"),
        ({"preset": 8}, "preset: expected a name, got 8"),
        ({"output": {"form": "yolox", "stride": [8]}}, "output: expected one of the .*'stride'"),
        ({"output": {"form": "end_to_end", "names": "a"}}, "names: expected a list"),
        ({"output": {"form": "end_to_end", "names": ["foun"]}}, "output: expected one of found"),
        ({"preset": "yolo"}, r"detector\.yaml: preset: expected one of nanodet"),
        ({"model": 3}, "model: expected a name, got 3"),
        ({"model": "none.onnx"}, r"none\.onnx: expected a file, got no such file"),
        ({"person_class": "person"}, "person_class: expected a valid integer, got 'person'"),
        ({"score_threshold": 30}, "score_threshold: expected 0 to 1, got 30"),
        ({"fill": 300}, "fill: expected 0 to 255"),
        ({"input": {"colour": "rgb", "layout": "nhwc"}}, "images in layout nhwc, got"),
    ],
)  # fmt: skip
def test_mistakes_in_descriptions_are_one_line(
    tmp_path: Path, values: dict[str, Any], expected: str
) -> None:
    path = write_detector(tmp_path, rows((0, 0, 64, 64, 0.5, 0)), **values)
    with pytest.raises(ValueError, match=expected) as refused:
        open_detector(str(path))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            "whole_image",
            "detector: expected whole-image, FILE.json, FILE.yaml, or PRESET:FILE.onnx",
        ),
        ("none.yaml", "none.yaml: expected a description, got no such file"),
        ("none.onnx", "none.onnx: expected PRESET:FILE.onnx, or a description"),
        ("yolox9:none.onnx", "preset: expected one of nanodet, .*did you mean 'yolox'"),
        ("yolox:none.onnx", "none.onnx: expected a file, got no such file"),
        ("none.json", "none.json: .*no such file"),
    ],
)
def test_unknown_detectors_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=expected):
        open_detector(spec)


def test_models_with_another_input_are_refused(tmp_path: Path) -> None:
    (tmp_path / "d.yaml").write_text(yaml.safe_dump({"model": "m.onnx", **ROWS}))
    write_constant_model(tmp_path / "m.onnx", {"a": f32(1, 1, 6)}, (1, 3, "height", "width"))
    with pytest.raises(ValueError, match=r"input\.hw: expected height and width.*\(1, 3, \?, \?\)"):
        open_detector(str(tmp_path / "d.yaml"))
    write_constant_model(tmp_path / "m.onnx", {"a": f32(1, 1, 6)}, (1, 3, 8, 8), TensorProto.INT32)
    values = {"model": "m.onnx", **ROWS, "input": {"colour": "rgb", "std": [255, 255, 255]}}
    (tmp_path / "d.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ValueError, match="expected no mean and std for values of int32"):
        open_detector(str(tmp_path / "d.yaml"))


# Outputs that tell of a wrong description


@pytest.mark.parametrize(
    ("detection", "expected"),
    [
        ((0, 0, 9, 9, 7.5, 0), "scores: expected 0 to 1, got 0 to 7.5"),
        ((0, 0, 9, 9, -2, 0), "scores: expected 0 to 1, got -2 to 0"),
        ((0, 0, np.nan, 9, 0.5, 0), "outputs: expected finite numbers"),
        ((0, 0, 9, 0.5, 0), r"outputs: expected rows of .*, got found \(1, 1, 5\)"),
    ],
)
def test_a_wrong_output_is_found_when_the_detector_is_opened(
    tmp_path: Path, detection: tuple[float, ...], expected: str
) -> None:
    path = write_detector(tmp_path, rows(detection))
    with pytest.raises(ValueError, match=rf"model\.onnx \(.*detector\.yaml\): {expected}"):
        open_detector(str(path))


def look_at(detect: Detector, frames: int) -> None:
    for index in range(frames):
        assert len(detect(black(64, 64), index=index)) == 0


@pytest.mark.parametrize(
    "box", [(900, 900, 990, 990), (0.25, 0.25, 0.75, 0.75)], ids=["outside", "in 0..1"]
)
def test_boxes_that_can_be_no_persons_are_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, box: tuple[float, ...]
) -> None:
    detect = toy(tmp_path, rows((*box, 0.9, 0)))
    with caplog.at_level(logging.WARNING):
        for _ in range(FIRST_FRAMES - 1):
            detect(black(64, 64))
    (said,) = caplog.messages
    assert "boxes: expected some of a person's size within the image, got none" in said
    with pytest.raises(ValueError, match="boxes: expected some of a person's size.*10 images"):
        detect(black(64, 64))


def test_decoded_boxes_that_are_decoded_again_are_refused(tmp_path: Path) -> None:
    output = f32(1, NUM_CELLS, 85) + 900
    with pytest.raises(ValueError, match="outputs: expected finite numbers, got others"):
        toy(tmp_path, output, output={"form": "yolox"})


def test_scores_that_are_always_zero_are_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    detect = toy(tmp_path, f32(1, 84, NUM_CELLS), output={"form": "yolov8"})
    with caplog.at_level(logging.WARNING):
        look_at(detect, FIRST_FRAMES - 1)
    (said,) = caplog.messages
    assert "scores: expected some above 0, got none" in said
    with pytest.raises(ValueError, match="scores: expected some above 0, got none"):
        look_at(detect, 1)


def test_pictures_without_people_are_no_wrong_description(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    padded = toy(tmp_path, f32(1, 100, 6))  # as models that pad their list with zeros
    low = f32(1, 84, NUM_CELLS) + 0.01
    with caplog.at_level(logging.WARNING):
        look_at(padded, 2 * FIRST_FRAMES)
        look_at(toy(tmp_path, low, output={"form": "yolov8"}), 2 * FIRST_FRAMES)
    assert not caplog.messages


# Without a model


def test_the_whole_image_is_one_person() -> None:
    boxes = open_detector("whole-image")(black(50, 100))
    assert boxes.boxes_xyxy.tolist() == [[0, 0, 100, 50]] and boxes.scores.tolist() == [1]


def entry(image_id: int | str, box_xywh: list[float], score: float, **more: Any) -> dict[str, Any]:
    return {"image_id": image_id, "bbox": box_xywh, "score": score, **more}


def write_boxes(folder: Path, *entries: dict[str, Any]) -> str:
    (folder / "boxes.json").write_text(json.dumps(entries))
    return str(folder / "boxes.json")


def test_boxes_of_a_file_are_found_by_name_and_number(tmp_path: Path) -> None:
    path = write_boxes(
        tmp_path,
        entry(36, [10, 5, 20, 30], 0.5, category_id=1),
        entry(36, [-10, -5, 20, 30], 0.9),
        entry(36, [0, 0, 5, 5], 0.1),
        entry(36, [0, 0, 5, 5], 0.9, category_id=2),
        entry(36, [200, 0, 5, 5], 0.9),
        entry("b.jpg", [1, 2, 3, 4], 0.8),
        entry("c", [2, 2, 3, 4], 0.8),
        entry(0, [3, 2, 3, 4], 0.8),
    )
    detect = open_detector(path)
    for name in ("000000000036.jpg", "some/where/frame_36.png"):
        found = detect(black(50, 100), name)
        np.testing.assert_array_equal(found.boxes_xyxy, [(0, 0, 10, 25), (10, 5, 30, 35)])
        np.testing.assert_allclose(found.scores, (0.9, 0.5))
    assert detect(black(50, 100), "a/b.jpg").boxes_xyxy.tolist() == [[1, 2, 4, 6]]
    assert detect(black(50, 100), "a/c.jpg").boxes_xyxy.tolist() == [[2, 2, 5, 6]]
    assert detect(black(50, 100), index=0).boxes_xyxy.tolist() == [[3, 2, 6, 6]]
    assert len(detect(black(50, 100), "37.jpg")) == 0
    assert len(open_detector(path, score_threshold=0.6)(black(50, 100), "36.jpg")) == 1


def test_a_file_of_other_images_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    detect = open_detector(write_boxes(tmp_path, entry(1000, [1, 2, 3, 4], 0.8)))
    with caplog.at_level(logging.WARNING):
        for index in range(2 * FIRST_FRAMES):
            detect(black(8, 8), index=index)
    (said,) = caplog.messages
    assert "boxes.json: no boxes for the first 10 images; its image_id are such as 1000" in said


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], r"expected a list of detections in COCO results form, got \[\]"),
        ([entry(1, [1, 2, 3], 0.5)], "detection 0: bbox"),
        ([entry(1, [1, 2, 3, 4], 0.5), {"image_id": 1}], "detection 1: bbox: expected four"),
        (
            [{**entry(1, [1, 2, 3, 4], 0.5), "image_id": [1]}],
            "detection 0: image_id: expected a whole",
        ),
        ([entry(1, [1, 2, 3, 4], 0.2)], "expected persons that score 0.3, got none"),
    ],
)
def test_files_that_hold_no_boxes_are_one_line(
    tmp_path: Path, entries: list[dict[str, Any]], expected: str
) -> None:
    with pytest.raises(ValueError, match=rf"boxes\.json: .*{expected}"):
        open_detector(write_boxes(tmp_path, *entries))


# A real model


@pytest.mark.slow
def test_nanodet_finds_people_on_photographs(vipnas_data: Path, models_folder: Path) -> None:
    """Its AP fed rightly, .472; fed with RGB / 255 it is .336."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO(str(vipnas_data / "coco_sample" / "person_keypoints_train2017.json"))
    detect = open_detector(f"nanodet:{models_folder / 'nanodet.onnx'}", score_threshold=0.05)
    results = []
    for image in truth.dataset["images"]:
        pixels = read_image(vipnas_data / "coco_sample" / "train2017" / image["file_name"])
        boxes = detect(pixels)
        for (x, y, right, bottom), score in zip(
            boxes.boxes_xyxy.tolist(), boxes.scores.tolist(), strict=True
        ):
            results.append(entry(image["id"], [x, y, right - x, bottom - y], score, category_id=1))
    evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    ap, ap50 = evaluation.stats[:2]
    assert ap == pytest.approx(0.472, abs=0.005) and ap50 == pytest.approx(0.735, abs=0.005)
