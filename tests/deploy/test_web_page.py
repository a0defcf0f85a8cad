"""The page of a model: its JavaScript computes what Python computes.

Modules of the page run in a browser, on inputs of the test. `test_export_web.py` has the page with
a model.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import cv2
import numpy as np
import pytest
import torch
from browser_fixture import Browser, Page, serving
from numpy.typing import NDArray

from vipnas.arch.clip import KeyFrameRule, Trigger
from vipnas.config.data import BoxFit
from vipnas.data.crops.geometry import heatmap_warp
from vipnas.data.crops.pictures import box_crops
from vipnas.data.formats.skeletons import COCO_17
from vipnas.deploy.clip_runner import FoundPoses
from vipnas.deploy.detected_boxes import DetectedBoxes
from vipnas.deploy.detector_forms import FORMS
from vipnas.deploy.export_web import PAGE, rules
from vipnas.deploy.following import FollowRule, follow
from vipnas.deploy.onnx_detector import fit_image
from vipnas.evaluation.evaluator import mirror
from vipnas.evaluation.key_frames import VIEW_HW, ClipMemory, KeyFrameSchedule
from vipnas.evaluation.tracker import Tracker, optimal_pairs
from vipnas.files import parse, to_plain
from vipnas.viz.pose_style import LEFT, MIDDLE, RIGHT, drawing_facts

pytestmark = pytest.mark.browser

UINT8 = NDArray[np.uint8]
IMAGE_HW, INPUT_HW = (45, 61), (32, 24)
NUM_CELLS = 84  # of strides 8, 16, 32 on 64 x 64
NUM_FRAMES, NUM_JOINTS = 60, COCO_17.num_joints


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    """The page as it is in the package, without a model."""
    with serving(PAGE) as url:
        page = browser.open(f"{url}/index.html")
        page.value(
            "globalThis.bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));"
            "globalThis.textOf = (bytes) => btoa(String.fromCharCode(...bytes)); 0"
        )
        yield page


@pytest.fixture(scope="module")
def image() -> UINT8:
    """Smooth, and of full contrast."""
    rng = np.random.default_rng(1)
    noise = cv2.GaussianBlur(rng.uniform(0, 255, (*IMAGE_HW, 3)), (0, 0), 1.0)
    return np.clip((noise - 127) * 5 + 127, 0, 255).astype(np.uint8)


def run(page: Page, module: str, script: str, **values: Any) -> Any:
    """What a script returns, which sees the module as `m`, and the values; bytes as text."""
    plain = {
        name: base64.b64encode(value).decode() if isinstance(value, bytes) else value
        for name, value in values.items()
    }
    known = " ".join(f"const {name} = {json.dumps(value)};" for name, value in plain.items())
    return page.value(f"import('/{module}').then(async (m) => {{ {known} {script} }})")


def as_js(image: UINT8) -> dict[str, Any]:
    """The pixels, RGBA, and the script that makes them an image."""
    alpha = np.full((*image.shape[:2], 1), 255, np.uint8)
    return {"pixels": np.concatenate((image, alpha), axis=2).tobytes()}


IMAGE = f"const image = {{data: bytesOf(pixels), width: {IMAGE_HW[1]}, height: {IMAGE_HW[0]}}};"


@pytest.mark.parametrize("aspect", ["extend", "stretch"])
def test_crops_have_the_pixels_of_python(
    page: Page, image: UINT8, aspect: Literal["extend", "stretch"]
) -> None:
    """Within the image, at each of its sides, beyond it, reduced and enlarged; with UDP."""
    boxes = [[10.0, 5.0, 30.0, 40.0], [-9.5, -7.25, 80.5, 60.0], [50.0, 30.3, 61.0, 44.0]]
    span_hw = (INPUT_HW[0] - 1, INPUT_HW[1] - 1)
    wanted, matrices = box_crops(image, np.array(boxes), INPUT_HW, span_hw, BoxFit(1.25, aspect))
    found = run(
        page,
        "crops.js",
        IMAGE
        + """return boxes.map((box) => {
            const view = m.cropView(box, span, 1.25, aspect);
            const crop = new Uint8Array(hw[0] * hw[1] * 3);
            m.cropInto(crop, image, view, hw);
            return [textOf(crop), [[view.scaleX, 0, view.x], [0, view.scaleY, view.y]]];
        });""",
        boxes=boxes,
        aspect=aspect,
        span=span_hw,
        hw=INPUT_HW,
        **as_js(image),
    )
    crops = [np.frombuffer(base64.b64decode(crop), np.uint8) for crop, _ in found]
    differences = np.abs(np.stack(crops).reshape(wanted.shape).astype(int) - wanted)
    assert differences.max() <= 1 and (differences > 0).mean() < 0.01
    assert (wanted[1] == 0).any() and wanted.std() > 30
    np.testing.assert_allclose([matrix for _, matrix in found], matrices, atol=1e-12)


@pytest.mark.parametrize("fit", ["letterbox", "letterbox_top_left", "resize"])
def test_the_input_of_a_detector_equals_that_of_python(page: Page, image: UINT8, fit: str) -> None:
    wanted, view = fit_image(image, (40, 40), fit, 114)
    script = "const {fitted, view} = m.fitImage(image, [40, 40], fit, 114);"
    script += "return [textOf(fitted), [view.scaleX, view.scaleY, view.x, view.y]];"
    fitted, found = run(page, "crops.js", IMAGE + script, fit=fit, **as_js(image))
    assert base64.b64decode(fitted) == wanted.tobytes()
    assert found == [*view.scale_xy, *view.offset_xy]


@pytest.mark.parametrize("shift", [True, False])
def test_mirrored_crops_equal_those_of_python(page: Page, image: UINT8, shift: bool) -> None:
    crops_N3HW = torch.from_numpy(image[None, :32, :24].copy()).permute(0, 3, 1, 2)
    wanted = mirror(crops_N3HW, shift).permute(0, 2, 3, 1).numpy()
    crops = image[:32, :24].tobytes()
    script = "return textOf(m.mirrored(bytesOf(crops), 24, shift));"
    found = run(page, "crops.js", script, crops=crops, shift=shift)
    assert base64.b64decode(found) == wanted.tobytes()


def test_heatmaps_are_warped_as_in_python(page: Page) -> None:
    before, now = {"scaleX": 0.5, "scaleY": 0.7, "x": 3.0, "y": -4.0}, {
        "scaleX": 0.6, "scaleY": 0.4, "x": -2.0, "y": 5.5,
    }  # fmt: skip
    matrices = [
        np.array([[view["scaleX"], 0, view["x"]], [0, view["scaleY"], view["y"]]])
        for view in (before, now)
    ]
    wanted = heatmap_warp(matrices[0], matrices[1], (4.0, 3.5), (8, 6))
    script = "return m.heatmapWarp(before, now, [4, 3.5], [8, 6]);"
    found = run(page, "crops.js", script, before=before, now=now)
    np.testing.assert_allclose(np.reshape(found, (2, 3)), wanted, atol=1e-12)


def test_pairs_are_matched_as_in_python(page: Page) -> None:
    """Of more rows, of more columns, and where the best pair is not part of the best sum."""
    rng = np.random.default_rng(3)
    tables = [rng.uniform(0, 1, shape) for shape in [(1, 1), (3, 5), (5, 3), (4, 4), (6, 6)]]
    tables.append(np.array([[0.9, 0.8], [0.85, 0.1]]))
    script = "return tables.map((table) => m.optimalPairs(table, 0.4));"
    found = run(page, "following.js", script, tables=[table.tolist() for table in tables])
    assert [sorted(pairs) for pairs in found] == [
        [list(pair) for pair in sorted(optimal_pairs(table, 0.4))] for table in tables
    ]
    assert sorted(found[-1]) == [[0, 1], [1, 0]]


FORM_OUTPUTS: dict[str, tuple[str, dict[str, Any], list[tuple[int, ...]]]] = {
    "yolox": ("yolox", {"activation": "sigmoid"}, [(1, NUM_CELLS, 8)]),
    "yolox decoded": ("yolox", {"decoded": True}, [(1, 9, 8)]),
    "yolov8": ("yolov8", {}, [(1, 7, NUM_CELLS)]),
    "distances in bins, rows": (
        "distances",
        {"unit": "bins", "num_classes": 3},
        [(1, 64, 3), (1, 64, 32), (1, 16, 32), (1, 16, 3), (1, 4, 3), (1, 4, 32)],
    ),
    "distances in strides, maps": (
        "distances",
        {"unit": "strides", "num_classes": 3, "activation": "sigmoid", "offset": 0.0},
        [(1, 3, 8, 8), (1, 4, 8, 8), (1, 3, 4, 4), (1, 4, 4, 4), (1, 3, 2, 2), (1, 4, 2, 2)],
    ),
    "distances in one output": (
        "distances",
        {"unit": "bins", "num_classes": 3},
        [(1, NUM_CELLS, 3 + 32)],
    ),
    "boxes": (
        "boxes",
        {"columns": ("centre_x", "centre_y", "width", "height"), "activation": "softmax"},
        [(1, 9, 3), (1, 9, 4)],
    ),
    "end to end": ("end_to_end", {}, [(1, 9, 6)]),
    "end to end in parts": (
        "end_to_end",
        {"columns": ("top", "left", "bottom", "right", "score", "class"), "normalised": True},
        [(1, 9, 4), (1, 9), (1, 9)],
    ),
}


@pytest.mark.parametrize("case", FORM_OUTPUTS)
def test_outputs_of_detectors_are_read_as_in_python(page: Page, case: str) -> None:
    name, options, shapes = FORM_OUTPUTS[case]
    form = parse(FORMS[name], options, "a test")
    rng = np.random.default_rng(2)
    outputs = [rng.uniform(0, 1, shape).astype(np.float32) for shape in shapes]
    if name == "end_to_end":
        classes = outputs[-1] if len(outputs) > 1 else outputs[0][..., 5]
        classes[...] = rng.integers(0, 3, classes.shape)
    named = {str(number): output for number, output in enumerate(outputs)}
    wanted = form.persons(named, (64, 64), 1)
    found = run(
        page,
        "forms.js",
        """const tensors = outputs.map(({data, dims}) => ({data: new Float32Array(data), dims}));
        return m.FORMS[form](tensors, options, [64, 64], 1).map(({box, score}) => [...box, score]);
        """,
        outputs=[{"data": one.ravel().tolist(), "dims": one.shape} for one in outputs],
        form=name,
        options=to_plain(form),
    )
    joined = np.concatenate((wanted.boxes_xyxy, wanted.scores[:, None]), axis=1)
    assert len(joined) > 1
    np.testing.assert_allclose(np.array(found), joined, rtol=1e-6, atol=1e-6)


def scripted_boxes(number: int) -> list[list[float]]:
    """Detections that match, move, overlap, come and go: boxes and a score."""
    rng = np.random.default_rng([number, 3])
    people = [(20, 20), (60, 25), (110, 30)][: 1 + number // 4 % 3]
    x_px = rng.uniform(-4, 4) + 21 * (number // 24)
    boxes = [[x + x_px, y, x + x_px + 30.0, y + 60.0] for x, y in people]
    if number % 12 == 4:
        boxes.append([boxes[0][0] + 1, *boxes[0][1:]])
        boxes.append([5.0, 5.0, 9.0, 9.0])  # too small
    scores = [0.9 if (number + row) % 5 else 0.4 for row in range(len(boxes))]
    found = [[*box, score] for box, score in zip(boxes, scores, strict=True)]
    return found if number % 20 else []


def scripted_persons(image: UINT8) -> DetectedBoxes:
    rows_N5 = np.array(scripted_boxes(int(image[0, 0, 0])), np.float64).reshape(-1, 5)
    return DetectedBoxes(rows_N5[:, :4], rows_N5[:, 4].astype(np.float32))


def scripted_poses(number: int, boxes: Sequence[Sequence[float]]) -> FoundPoses:
    """Joints all over the box; in some frames nobody is found."""
    joint = np.arange(NUM_JOINTS)
    share = np.stack((joint * 7 % 17 / 16, (joint * 5 + number) % 13 / 12), axis=1)
    corners = np.array(boxes, np.float64).reshape(-1, 4)
    sides = corners[:, 2:] - corners[:, :2]
    keypoints = corners[:, None, :2] + sides[:, None] * (0.1 + 0.8 * share)
    scores = (joint * 11 + number * 5) % 23 / 22 * (0.1 if number % 15 in (7, 8, 9, 10) else 1.0)
    shown = np.broadcast_to(scores, (len(corners), NUM_JOINTS)).astype(np.float32)
    num_persons = len(corners)
    return FoundPoses(keypoints, shown, (None,) * num_persons, np.zeros(num_persons, np.int64))


def next_memory(memory: ClipMemory | None) -> ClipMemory | None:
    """Two follow-up frames come after each key frame."""
    distance = 0 if memory is None else memory.distance
    return ClipMemory(distance + 1, torch.empty(0), np.empty((2, 3)), 0.9) if distance < 2 else None


@pytest.mark.parametrize("trigger", [None, "score", "change"])
def test_key_frames_come_when_they_do_in_python(page: Page, trigger: Trigger | None) -> None:
    """One person, whose crop changes more and more and whose score falls."""
    rng = np.random.default_rng(5)
    threshold = {"score": 0.15, "change": 0.02}
    rule = None if trigger is None else KeyFrameRule(trigger, threshold[trigger], 6)
    schedule = KeyFrameSchedule(3, rule)
    first, other = rng.integers(0, 256, (2, *INPUT_HW, 3))
    crops = [(first + (other - first) * number / 30).astype(np.uint8) for number in range(30)]
    scores = rng.uniform(0.8, 1, 30).tolist()
    memory, distances = None, []
    for crop, score in zip(crops, scores, strict=True):
        view = schedule.view(torch.from_numpy(crop).permute(2, 0, 1))
        distance = schedule.distance(memory, view)
        key_view = memory.key_view_3HW if memory is not None and distance else view
        memory = ClipMemory(distance, torch.empty(0), np.empty((2, 3)), score, key_view)
        distances.append(distance)
    found = run(
        page,
        "key_frames.js",
        """const schedule = new m.Schedule(facts);
        const size = hw[0] * hw[1] * 3;
        let memory = null;
        return scores.map((score, number) => {
            const crop = bytesOf(crops).subarray(number * size, (number + 1) * size);
            const view = schedule.view(crop, hw);
            const distance = schedule.distance(memory, view);
            memory = {distance, score, keyView: distance ? memory.keyView : view};
            return [distance, schedule.network(distance)];
        });""",
        facts={
            "num_follow_ups": 3,
            "header": {"key_frames": to_plain(rule)},
            "key_frame_view_hw": VIEW_HW,
        },
        crops=np.stack(crops).tobytes(),
        hw=INPUT_HW,
        scores=scores,
    )
    networks = [1 + (distance - 1) % 3 if distance else 0 for distance in distances]
    assert found == [list(pair) for pair in zip(distances, networks, strict=True)]
    assert distances.count(0) > 30 // 6 if rule else distances == [n % 4 for n in range(30)]


@pytest.mark.parametrize("has_detector", [True, False])
def test_persons_are_followed_as_in_python(page: Page, has_detector: bool) -> None:
    """With births, deaths, lost persons, two boxes of one, and those who come back.

    Each person has a schedule of key frames and follow-up frames.
    """
    images = [np.full((100, 160, 3), number, np.uint8) for number in range(NUM_FRAMES)]
    rule, tracker = FollowRule(detect_every=4), Tracker(COCO_17)
    distances: list[list[int]] = []

    def runner(
        image: UINT8, boxes_xyxy: NDArray[np.float64], memories: Sequence[ClipMemory | None]
    ) -> FoundPoses:
        distances.append([0 if memory is None else memory.distance for memory in memories])
        poses = scripted_poses(int(image[0, 0, 0]), boxes_xyxy.tolist())
        return poses._replace(memories=tuple(map(next_memory, memories)))

    wanted = list(follow(images, runner, tracker, scripted_persons if has_detector else None, rule))
    found = run(
        page,
        "following.js",
        """const distances = [];
        const predict = async ({number}, boxes, memories) => {
          distances.push(memories.map((memory) => memory?.distance ?? 0));
          return boxes.map(([left, top, right, bottom], row) => {
            const distance = memories[row]?.distance ?? 0;
            const joints = Array.from({length: K}, (_, joint) => joint);
            const part = number % 15 >= 7 && number % 15 <= 10 ? 0.1 : 1;
            return {
                keypoints: joints.map((joint) => [
                    left + (right - left) * (0.1 + 0.8 * ((joint * 7) % 17) / 16),
                    top + (bottom - top) * (0.1 + 0.8 * ((joint * 5 + number) % 13) / 12),
                ]),
                scores: joints.map((j) => Math.fround((((j * 11 + number * 5) % 23) / 22) * part)),
                memory: distance < 2 ? {distance: distance + 1} : null,
            };
          });
        };
        const detect = boxes && (async ({number}) =>
            boxes[number].map((row) => ({box: row.slice(0, 4), score: Math.fround(row[4])})));
        const follower = new m.Follower(facts, predict, detect);
        const frames = [];
        for (let number = 0; number < count; number++) {
            frames.push(await follower.next({number, width: 160, height: 100}));
        }
        return [frames, distances];""",
        facts={**rules(rule, tracker), "header": {"skeleton": {"sigmas": COCO_17.sigmas}}},
        boxes=[scripted_boxes(number) for number in range(NUM_FRAMES)] if has_detector else None,
        count=NUM_FRAMES,
        K=NUM_JOINTS,
    )
    found, their_distances = found
    assert their_distances == distances
    assert {distance for frame in distances for distance in frame} == {0, 1, 2}
    for number, (frame, persons) in enumerate(zip(wanted, found, strict=True)):
        assert [person["id"] for person in persons] == frame.ids.tolist(), number
        keypoints = np.array([person["keypoints"] for person in persons])
        np.testing.assert_allclose(keypoints.reshape(frame.keypoints.shape), frame.keypoints)
    if has_detector:
        assert {len(frame.ids) for frame in wanted} >= {0, 1, 2, 3}
        assert max(frame.ids.max(initial=0) for frame in wanted) > 3


def test_poses_are_drawn_in_the_colours_of_the_project(page: Page) -> None:
    """The left in blue, the right vermilion, the middle white, at their places, scaled by two."""
    skeleton = COCO_17
    keypoints = [[10.0 + 5 * joint, 20.0] for joint in range(NUM_JOINTS)]
    colours = run(
        page,
        "draw.js",
        """const canvas = Object.assign(document.createElement("canvas"), {width: 220, height: 80});
        const context = canvas.getContext("2d");
        const person = {id: 0, box: [0, 0, 100, 40], keypoints, scores: keypoints.map(() => 1)};
        m.drawPoses(context, [person], 2, style, {minScore: 0.2, showBoxes: true});
        return keypoints.map(([x, y]) =>
            [...context.getImageData(2 * x + 1, 2 * y + 1, 1, 1).data].slice(0, 3));""",
        style=drawing_facts(skeleton),
        keypoints=keypoints,
    )
    sides = {name: name.partition("_")[0] for name in skeleton.joints}
    by_side = {"left": list(LEFT), "right": list(RIGHT)}
    wanted = [by_side.get(sides[name], list(MIDDLE)) for name in skeleton.joints]
    assert colours == wanted
