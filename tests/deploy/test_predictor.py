"""Poses of images, videos and cameras by one loop, in Python and at the command line."""

from __future__ import annotations

import json
import logging
import re
import resource
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from model_fixture import header_of_arch, save_clip, save_network
from networks_fixture import of_one_stage, randomise_batch_norm
from onnx_fixture import write_constant_model
from walk_fixture import BOXES_N4, FPS, IMAGE_HW, NUM_FRAMES, picture, two_persons, write_walk

from vipnas.arch.clip import FollowUp, Fusion, KeyFrameRule, VideoArch
from vipnas.cli.main import main
from vipnas.cli.stopping import ended_by_signals
from vipnas.data.formats.skeletons import COCO_17
from vipnas.deploy import sources
from vipnas.deploy.clip_runner import ClipRunner
from vipnas.deploy.detected_boxes import DetectedBoxes, Detector, whole_image
from vipnas.deploy.detectors import open_detector
from vipnas.deploy.export import Form, export_network
from vipnas.deploy.export_clip import export_video
from vipnas.deploy.following import FollowRule, follow
from vipnas.deploy.foreign import open_pose_model
from vipnas.deploy.loading import load
from vipnas.deploy.model import PoseModel
from vipnas.deploy.opening import in_runtime, is_foreign
from vipnas.deploy.predictor import Drawing, TrackSettings, find_poses, write_poses
from vipnas.deploy.smoothing import OneEuroFilter
from vipnas.deploy.source import Source, SourceFrame
from vipnas.deploy.sources import open_source
from vipnas.deploy.writer import FramePoses, Writer
from vipnas.deploy.writers import open_writers
from vipnas.errors import UserError
from vipnas.evaluation.coco_ap import coco_metrics
from vipnas.evaluation.key_frames import KeyFrameSchedule
from vipnas.evaluation.tracker import Tracker
from vipnas.models.clipnet import VideoNet, build_video_net
from vipnas.models.posenet import PoseNet
from vipnas.space.image import SearchSpace

pytestmark = pytest.mark.usefixtures("onnx_operators")


class Marked(PoseNet):
    """Finds every joint at the brightest pixel of the crop."""

    def forward(self, images_B3HW: torch.Tensor, arch: object = None) -> torch.Tensor:
        height, width = self.arch.heatmap_hw
        grey = images_B3HW.mean(dim=1, keepdim=True)
        return torch.nn.functional.adaptive_avg_pool2d(grey, (height, width)).repeat(1, 17, 1, 1)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_walk(tmp_path_factory.mktemp("videos") / "walk.avi")


@pytest.fixture(scope="module")
def network(tiny_space: SearchSpace) -> PoseNet:
    torch.manual_seed(0)
    network = PoseNet(of_one_stage(tiny_space.min_arch())).eval()
    randomise_batch_norm(network, seed=0)
    return network


@pytest.fixture(scope="module")
def model_file(network: PoseNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_network(tmp_path_factory.mktemp("models") / "network.safetensors", network)


@pytest.fixture(scope="module")
def clip_file(tiny_space: SearchSpace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    small = of_one_stage(tiny_space.min_arch())
    members = FollowUp(small, Fusion(1, "mul")), FollowUp(small, None)
    torch.manual_seed(0)
    clip = build_video_net(VideoArch(small, members)).eval()
    randomise_batch_norm(clip, seed=0)
    path = tmp_path_factory.mktemp("clips") / "clip.safetensors"
    return save_clip(path, clip, key_frames=KeyFrameRule("change", 0.05, 5))


def marked(space: SearchSpace) -> PoseModel:
    network = Marked(space.min_arch())
    return PoseModel(network, header_of_arch(network.arch), Path("marked.safetensors"))


# --- in Python


def test_a_bright_spot_is_found_where_it_is(tmp_path: Path, tiny_space: SearchSpace) -> None:
    image = np.zeros((240, 180, 3), np.uint8)
    image[96:112, 40:56] = 255
    cv2.imwrite(str(tmp_path / "spot.png"), image)
    (found,) = marked(tiny_space).track(tmp_path / "spot.png")
    assert found.keypoints[0] == pytest.approx(np.tile((47.5, 103.5), (17, 1)), abs=15)
    assert found.ids is None


def test_frames_are_found_as_images_are(video: Path, model_file: Path) -> None:
    model = load(model_file)
    with open_source(video) as source:
        frames = list(source)
    found = list(model.track(video, two_persons, detect_every=3))
    np.testing.assert_array_equal(found[0].boxes_xyxy, BOXES_N4)
    for frame, poses in zip(frames, found, strict=True):
        np.testing.assert_array_equal(poses.image, frame.image)
        expected = model.predict(frame.image, poses.boxes_xyxy)
        np.testing.assert_allclose(poses.keypoints, expected.keypoints, atol=1e-3)
        np.testing.assert_allclose(poses.scores, expected.scores, atol=1e-5)
        assert (poses.index, poses.time_s) == (frame.index, frame.time_s)
        assert poses.ids is not None
        assert [entry["track_id"] for entry in poses.to_coco()] == poses.ids.tolist()
        assert {entry["image_id"] for entry in poses.to_coco()} <= {frame.index}


def test_images_of_a_folder_are_independent(tmp_path: Path, model_file: Path) -> None:
    for number in (0, 5):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture(number))
    model, asked = load(model_file), []

    def detect(image: np.ndarray, name: str = "", index: int = 0) -> DetectedBoxes:
        asked.append((name, index))
        return two_persons(image)

    found = list(model.track(tmp_path, detect))
    assert asked == [("0", 0), ("5", 1)]
    for number, poses in zip((0, 5), found, strict=True):
        expected = model.predict(picture(number), BOXES_N4, bgr=True)
        np.testing.assert_array_equal(poses.keypoints, expected.keypoints)
        pairs = zip(poses.to_coco(), expected.to_coco(), strict=True)
        for share, (one, other) in zip((1, 0.5), pairs, strict=True):  # the scores of the boxes
            assert one["score"] == pytest.approx(share * other["score"])


@pytest.mark.parametrize("detector", [None, whole_image])
def test_without_a_detector_the_box_follows_the_pose(
    video: Path, tmp_path: Path, detector: Detector | None
) -> None:
    model = open_pose_model(str(write_foreign(tmp_path)))
    first, second, *_ = model.track(video, detector, detect_every=1)
    assert first.boxes_xyxy.tolist() == [[0, 0, IMAGE_HW[1], IMAGE_HW[0]]]
    low, high = first.keypoints[0].min(axis=0), first.keypoints[0].max(axis=0)
    margin = 0.125 * (high - low)
    expected = np.concatenate((low - margin, high + margin))
    assert second.boxes_xyxy == pytest.approx(expected[None])
    assert first.ids is not None and second.ids is not None
    assert first.ids.tolist() == second.ids.tolist() == [0]


def test_smoothing_is_that_of_the_filter(video: Path, model_file: Path) -> None:
    model = load(model_file)
    raw, smooth = (list(model.track(video, two_persons, 1, smooth=on)) for on in (False, True))
    one_euro = OneEuroFilter()
    for before, after in zip(raw, smooth, strict=True):
        assert before.ids is not None
        expected = one_euro(before.time_s, before.ids, before.keypoints, before.boxes_xyxy)
        np.testing.assert_allclose(after.keypoints, expected)
    assert not np.allclose(raw[-1].keypoints, smooth[-1].keypoints)


def test_the_networks_of_a_clip_are_run_in_turn(video: Path, clip_file: Path) -> None:
    clip = load(clip_file)
    assert isinstance(clip.network, VideoNet)
    with open_source(video) as source:
        images = [frame.image for frame in source]
    schedule = KeyFrameSchedule(2, clip.header.key_frames)
    runner = replace(ClipRunner.of(clip.network, clip.skeleton, clip.codec), schedule=schedule)
    followed = list(follow(images, runner, Tracker(clip.skeleton), two_persons, FollowRule(2)))
    assert not all(frame.is_key_frame.all() for frame in followed)
    for expected, found in zip(followed, clip.track(video, two_persons, 2), strict=True):
        np.testing.assert_array_equal(found.keypoints, expected.keypoints)
        np.testing.assert_array_equal(found.ids, expected.ids)
    for refused in (clip.pose_net, clip.heatmap_network):
        with pytest.raises(UserError, match="expected a network of images, got a file of kind cl"):
            refused()


def test_a_plot_shows_poses_and_ids(model_file: Path) -> None:
    found = load(model_file).predict(picture(0), BOXES_N4, bgr=True)
    found = replace(found, scores=np.ones_like(found.scores))
    drawn = found.plot()
    assert drawn.shape == found.image.shape and (drawn != found.image).any()
    assert (replace(found, ids=np.array([3, 4])).plot() != drawn).any()
    assert (found.plot(boxes=True) != drawn).any()


def test_a_dataframe_without_tracks_or_pandas(
    model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = load(model_file).predict(picture(0), BOXES_N4, bgr=True)
    pandas = pytest.importorskip("pandas")
    rows = found.to_dataframe()
    assert rows["track_id"].tolist() == [pandas.NA] * 2
    assert rows[["left", "top", "right", "bottom"]].to_numpy().tolist() == BOXES_N4.tolist()
    assert rows["right_ankle_y"].tolist() == found.keypoints[:, 16, 1].tolist()
    nobody = load(model_file).predict(picture(0), np.empty((0, 4))).to_dataframe()
    assert nobody.columns.tolist() == rows.columns.tolist() and not len(nobody)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match=r"pandas installed, got none .*vipnas\[pandas\]"):
        found.to_dataframe()


def test_output_that_is_not_finite_names_the_file(tiny_space: SearchSpace) -> None:
    model = marked(tiny_space)
    model.network.forward = lambda images: torch.full((len(images), 17, 2, 2), torch.nan)  # type: ignore[method-assign]
    with pytest.raises(FloatingPointError, match=r"marked.safetensors: expected finite heatmaps"):
        model.predict(picture(0))


# --- what is written


class Interrupted(Source):
    """A source that the user ends, or that breaks, after three frames."""

    kind, place, fps = "video", "walk.avi", FPS

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __iter__(self) -> Iterator[SourceFrame]:
        for number in range(3):
            name = f"walk/{number:06d}"
            yield SourceFrame(number, number / FPS, picture(number), f"{name}.jpg", name)
        raise self._error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("walk.avi: damaged")])
def test_frames_done_so_far_are_kept(
    error: BaseException, tmp_path: Path, model_file: Path
) -> None:
    model = load(model_file, flip_test=False)
    writers = open_writers([tmp_path / "poses.json", tmp_path / "drawn.mp4"], COCO_17)
    if isinstance(error, ValueError):
        with pytest.raises(ValueError, match="damaged"):
            write_poses(model, Interrupted(error), writers, two_persons)
    else:
        summary = write_poses(model, Interrupted(error), writers, two_persons)
        assert summary.is_interrupted and summary.num_frames == 3
    results = json.loads((tmp_path / "poses.json").read_text())
    assert {entry["image_id"] for entry in results} == {0, 1, 2}
    with open_source(tmp_path / "drawn.mp4") as drawn:
        assert len(list(drawn)) == 3


class Kept(Writer):
    """Keeps what it is given."""

    draws = True

    def __init__(self) -> None:
        super().__init__(Path())
        self.found: list[FramePoses] = []

    def _write(self, found: FramePoses) -> None:
        self.found.append(found)

    def _close(self) -> None:
        pass


def test_a_video_is_drawn_as_plot_draws_and_its_frames_stay_as_they_are(
    video: Path, model_file: Path
) -> None:
    model = load(model_file, flip_test=False)
    expected, pictures = list(model.track(video, two_persons)), []
    for shown in (Drawing(0.0), Drawing(0.0, boxes=True), Drawing(0.0, ids=False)):
        kept = Kept()
        with open_source(video) as source:
            write_poses(model, source, [kept], two_persons, drawing=shown)
        assert len(kept.found) == len(expected) == NUM_FRAMES
        for found, poses in zip(kept.found, expected, strict=True):
            drawn = poses.plot(shown.min_score, shown.boxes, bgr=True, ids=shown.ids)
            assert found.picture_bgr is not None and np.array_equal(found.picture_bgr, drawn)
            assert np.array_equal(found.frame.image, poses.image)
        pictures += [kept.found[0].picture_bgr, kept.found[0].frame.image[..., ::-1]]
    assert len({np.asarray(picture).tobytes() for picture in pictures}) == 4


# --- at the command line


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert main(["predict", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_several_outputs_of_a_video(
    video: Path, model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["drawn.mp4", "poses.json", "poses.csv", "pictures"]
    outputs = [part for name in names for part in ("-o", tmp_path / name)]
    said = run(capsys, model_file, video, *outputs).splitlines()
    assert said[:-1] == [
        f"predict: {tmp_path / name}" for name in (*names, "pictures/keypoints.json")
    ]
    for part in (f"predict: {NUM_FRAMES} frames, ", "tracks; ms a frame: decoding ", ", network "):
        assert part in said[-1]
    assert (tmp_path / "pictures" / "walk" / "000006.png").is_file()
    results = json.loads((tmp_path / "poses.json").read_text())
    expected = [
        entry
        for poses in load(model_file, flip_test=False).track(video)
        for entry in poses.to_coco()
    ]
    pandas = pytest.importorskip("pandas")
    rows = pandas.concat(
        [poses.to_dataframe() for poses in load(model_file, flip_test=False).track(video)]
    )
    csv_rows = pandas.read_csv(tmp_path / "poses.csv").drop(columns="file_name")
    pandas.testing.assert_frame_equal(
        rows.reset_index(drop=True), csv_rows, check_dtype=False, atol=1e-3
    )
    assert len(results) == len(expected) > 0
    for one, other in zip(results, expected, strict=True):
        assert one["track_id"] == other["track_id"] and one["image_id"] == other["image_id"]
        assert one["keypoints"] == pytest.approx(other["keypoints"])


def write_foreign(folder: Path) -> Path:
    """A pose model of others that finds the same joints in every crop of 64 x 64 pixels."""
    joints_1K3 = np.full((1, 17, 3), 0.9, np.float32)
    joints_1K3[0, :, :2] = np.column_stack((np.linspace(20, 44, 17), np.linspace(10, 54, 17)))
    write_constant_model(folder / "other.onnx", {"joints": joints_1K3})
    (folder / "other.yaml").write_text(
        "model: other.onnx\ninput: {colour: rgb}\nskeleton: coco_17\n"
        "output: {form: coordinates, columns: [x, y, score], normalised: false}\n"
    )
    return folder / "other.yaml"


def test_models_of_others_are_models(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_foreign(tmp_path)
    (tmp_path / "boxes.json").write_text(
        json.dumps([{"image_id": 0, "bbox": [10, 10, 40, 60], "score": 0.9}])
    )
    boxes: list[str | Path] = ["--detector", tmp_path / "boxes.json"]
    run(capsys, path, video, "-o", tmp_path / "a.json", *boxes)
    first = json.loads((tmp_path / "a.json").read_text())[0]
    keypoints_K3 = np.reshape(first["keypoints"], (17, 3))
    assert keypoints_K3[8] == pytest.approx((30, 40, 0.9), abs=1)  # the middle of the box
    expected = open_pose_model(str(path)).predict(picture(0), [[10, 10, 50, 70]], bgr=True)
    assert keypoints_K3[:, :2] == pytest.approx(expected.keypoints[0])


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("movenet:a.onnx", True),
        ("model.yaml", True),
        ("pose.onnx", False),
        ("network.safetensors", False),
        ("C:network.safetensors", False),
    ],
)
def test_names_of_models_of_others(spec: str, expected: bool) -> None:
    assert is_foreign(spec) == expected


@pytest.mark.timeout(120)
def test_a_runtime_runs_weights(model_file: Path, clip_file: Path) -> None:
    model = load(model_file)
    other = in_runtime(model, "onnxruntime")
    image = picture(0)
    np.testing.assert_allclose(
        other.predict(image, BOXES_N4).keypoints,
        model.predict(image, BOXES_N4).keypoints,
        atol=0.01,
    )
    with pytest.raises(UserError, match="--runtime: expected one of .*, got 'torch-compiled'"):
        in_runtime(model, "torch-compiled")
    assert in_runtime(model, "torch") is model
    with pytest.raises(UserError, match="--runtime: expected onnxruntime for the networks of a c"):
        in_runtime(load(clip_file), "openvino")


def bad_inputs(folder: Path, model: Path, video: Path) -> dict[str, tuple[list[object], str]]:
    """Arguments, and what is said of them."""
    (folder / "text.mp4").write_text("no video")
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "cut.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(12))
    (folder / "empty").mkdir()
    (folder / "file").write_text("")
    (folder / "zero.json").write_text('[{"image_id": 0, "bbox": [0, 0, 9, 9], "score": 0}]')
    write_constant_model(folder / "any.onnx", {"x": np.zeros((1, 3), np.float32)})
    out = ["-o", folder / "out.json"]
    return {
        "no such file": ([model, folder / "none.mp4", *out], "none.mp4: .*no such file"),
        "no video": ([model, folder / "text.mp4", *out], "text.mp4: .*neither"),
        "empty video": ([model, folder / "empty.mp4", *out], "empty.mp4: .*empty file"),
        "cut video": ([model, folder / "cut.mp4", *out], "cut.mp4: .*index is lost"),
        "two videos": ([model, video, video, *out], "walk.avi: expected images, got a video"),
        "empty folder": ([model, folder / "empty", *out], "empty: .*images.*none"),
        "no camera": ([model, "97", *out], "camera 97: expected a camera"),
        "not writable": (
            [model, video, "-o", folder / "file" / "a.mp4"],
            "can be written",
        ),
        "other suffix": ([model, video, "-o", folder / "a.txt"], "a.txt: expected .mp4"),
        "the source": ([model, video, "-o", folder / "a.json", "-o", video], "expected"),
        "no boxes": ([model, video, *out, "--detector", folder / "zero.json"], "zero.json: "),
        "detector": ([model, video, *out, "--detector", "nanodte:a.onnx"], "nanodet"),
        "model": (
            [folder / "none.safetensors", video, *out],
            "safetensors: expected a file, got no such file",
        ),
        "no model": ([folder / "any.onnx", video, *out], "any.onnx: .*PRESET:FILE.onnx"),
        "device": ([model, video, *out, "--device", "cuda:9"], "--device: expected"),
        "tracks": (
            [model, folder / "a.png", *out, "--json-form", "posetrack18"],
            "PoseTrack18: expected track ids",
        ),
    }


BAD_INPUTS = (
    "no such file",
    "no video",
    "empty video",
    "cut video",
    "two videos",
    "empty folder",
    "no camera",
    "not writable",
    "other suffix",
    "the source",
    "no boxes",
    "detector",
    "model",
    "no model",
    "device",
    "tracks",
)


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_a_bad_input_is_one_line(
    name: str, model_file: Path, video: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), picture(0))
    arguments, expected = bad_inputs(tmp_path, model_file, video)[name]
    before = video.read_bytes()
    assert main(["predict", *map(str, arguments)]) == 1
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and said.startswith("vipnas predict: ")
    assert re.search(expected, said), said
    assert video.read_bytes() == before


def write_detector(folder: Path, boxes_14: Sequence[float], score: float) -> Path:
    """A detector that finds the same box in every image of 64 x 64 pixels."""
    outputs = {
        "boxes": np.array([[boxes_14]], np.float32),
        "scores": np.full((1, 1, 1), score, np.float32),
    }
    write_constant_model(folder / "detector.onnx", outputs)
    (folder / "detector.yaml").write_text(
        "model: detector.onnx\ninput: {colour: rgb}\n"
        "output: {form: boxes, columns: [left, top, right, bottom]}\n"
    )
    return folder / "detector.yaml"


@pytest.mark.parametrize(
    ("box", "score", "expected"),
    [
        ((500, 500, 600, 600), 0.9, "boxes: expected some of a person's size within the image"),
        ((5, 5, 50, 60), 0.0, "scores: expected some above 0"),
    ],
)
def test_a_wrong_detector_is_told_and_the_frames_are_kept(
    box: Sequence[float],
    score: float,
    expected: str,
    model_file: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "long.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, IMAGE_HW[::-1])
    for number in range(12):
        writer.write(picture(number))
    writer.release()
    outputs = ["-o", str(tmp_path / "a.json"), "-o", str(tmp_path / "a.mp4")]
    detector = ["--detector", str(write_detector(tmp_path, box, score))]
    assert main(["predict", str(model_file), str(path), *outputs, *detector]) == 1
    said = capfd.readouterr().err.splitlines()[-1]
    assert said.startswith("vipnas predict: ") and expected in said and "none in 10 images" in said
    assert json.loads((tmp_path / "a.json").read_text()) == []
    with open_source(tmp_path / "a.mp4") as drawn:
        assert len(list(drawn)) == 9


def test_a_truncated_video_is_told_and_its_frames_are_kept(
    video: Path,
    model_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = video.read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 3])
    said = run(capsys, model_file, tmp_path / "cut.avi", "-o", tmp_path / "a.mp4")
    assert "cut.avi: truncated or damaged: " in caplog.text
    with open_source(tmp_path / "a.mp4") as drawn:
        num_kept = len(list(drawn))
    assert 0 < num_kept < NUM_FRAMES and f"predict: {num_kept} frames" in said


def test_a_full_disk_is_told_and_the_frames_are_kept(
    video: Path,
    model_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    free = iter([2**30] * 3 + [2**20])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=next(free)))
    outputs = ["-o", str(tmp_path / "a.mp4"), "-o", str(tmp_path / "a.json")]
    assert main(["predict", str(model_file), str(video), *outputs]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "a.mp4: expected a file that can be written, got No space left on device" in said
    assert "the first 3 frames are kept" in said
    assert {entry["image_id"] for entry in json.loads((tmp_path / "a.json").read_text())} <= {
        0,
        1,
        2,
    }
    with open_source(tmp_path / "a.mp4") as drawn:
        assert len(list(drawn)) == 3


def test_nobody_found_is_said(
    tmp_path: Path,
    tiny_space: SearchSpace,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), picture(0))

    def nobody(image: np.ndarray, name: str = "", index: int = 0) -> DetectedBoxes:
        return DetectedBoxes(np.empty((0, 4)), np.empty(0, np.float32))

    writers = open_writers([tmp_path / "a.json"], COCO_17)
    with open_source(tmp_path / "a.png") as source, caplog.at_level(logging.WARNING):
        summary = write_poses(marked(tiny_space), source, writers, nobody)
    assert (summary.num_frames, summary.num_persons, summary.num_tracks) == (1, 0, None)
    assert "a.png: expected persons, found none in 1 frames" in caplog.text
    assert json.loads((tmp_path / "a.json").read_text()) == []


class Signalled(Interrupted):
    """A source whose process gets a signal after three frames."""

    def __init__(self, number: signal.Signals) -> None:
        self._number = number

    def __iter__(self) -> Iterator[SourceFrame]:
        self._error = RuntimeError("the signal did nothing")
        for frame in super().__iter__():
            yield frame
            if frame.index == 2:
                signal.raise_signal(self._number)


@pytest.fixture
def heard() -> Iterator[None]:
    """Signals as in a terminal: a test run in the background may ignore them."""
    handlers: dict[str, Any] = {"SIGINT": signal.default_int_handler, "SIGTERM": signal.SIG_DFL}
    handlers["SIGHUP"] = signal.SIG_DFL
    before = {name: signal.signal(signal.Signals[name], how) for name, how in handlers.items()}
    yield
    for name, how in before.items():
        signal.signal(signal.Signals[name], how)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_keep_the_frames_done_so_far(
    name: str,
    video: Path,
    model_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    number = signal.Signals[name]
    before = signal.getsignal(number)
    monkeypatch.setattr(sources, "open_source", lambda *_, **__: Signalled(number))
    outputs = [part for end in ("csv", "mp4") for part in ("-o", str(tmp_path / f"a.{end}"))]
    assert main(["predict", str(model_file), str(video), *outputs]) == 130
    said = capsys.readouterr()
    assert "3 frames, " in said.out
    assert said.err.endswith("interrupted; the frames done so far are kept\n")
    assert (tmp_path / "a.csv").read_text().count("walk/") >= 2
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv", "a.mp4"}
    assert signal.getsignal(number) == before


@pytest.mark.usefixtures("heard")
def test_signals_are_heard_once_and_not_if_they_were_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with (
            pytest.raises(KeyboardInterrupt, match="nothing was written"),
            ended_by_signals("nothing was written"),
        ):
            signal.raise_signal(signal.SIGHUP)
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


# --- real models


@pytest.mark.slow
def test_thunder_after_nanodet(vipnas_data: Path, models_folder: Path, tmp_path: Path) -> None:
    """The loop, the writer and the scores give the AP that the models have elsewhere."""
    folder = vipnas_data / "coco_sample"
    truth = json.loads((folder / "person_keypoints_train2017.json").read_text())
    detector = open_detector(f"nanodet:{models_folder / 'nanodet.onnx'}")
    model = open_pose_model(f"movenet:{models_folder / 'movenet-thunder.onnx'}")
    with open_source(folder / "train2017") as source:
        write_poses(model, source, open_writers([tmp_path / "a.json"], COCO_17), detector)
    image_ids = {image["file_name"]: image["id"] for image in truth["images"]}
    results = json.loads((tmp_path / "a.json").read_text())
    results = [entry | {"image_id": image_ids[entry["file_name"]]} for entry in results]
    assert coco_metrics(truth, results, COCO_17).ap == pytest.approx(0.441, abs=0.01)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_memory_does_not_grow_with_the_video(model_file: Path, tmp_path: Path) -> None:
    """Between frame 100 and frame 3,000 by less than 20 MB, although new persons come all along."""
    source = Endless()
    outputs = [tmp_path / "a.mp4", tmp_path / "a.json", tmp_path / "a.csv"]

    def others(image: np.ndarray, name: str = "", index: int = 0) -> DetectedBoxes:
        left, top = np.random.default_rng(index).uniform(0, 190, 2)
        return DetectedBoxes(BOXES_N4 + (left, top, left, top), np.ones(2, np.float32))

    settings = TrackSettings(detect_every=3, smooth=True)
    model = load(model_file, flip_test=False)
    summary = write_poses(model, source, open_writers(outputs, COCO_17), others, settings)
    assert summary.num_frames == 3000
    assert summary.num_tracks is not None and summary.num_tracks > 500
    assert source.rss_mb[3000] - source.rss_mb[100] < 20


class Endless(Source):
    """3,000 frames of a video, and the memory of the process when they were asked for."""

    kind, place, fps = "video", "walk.avi", FPS

    def __init__(self) -> None:
        self.rss_mb: dict[int, float] = {}

    def __iter__(self) -> Iterator[SourceFrame]:
        for number in range(3001):
            if number in (100, 3000):
                pages = int(Path("/proc/self/statm").read_text().split()[1])
                self.rss_mb[number] = pages * resource.getpagesize() / 2**20
            if number < 3000:
                image = np.tile(picture(number % 7), (3, 3, 1))
                name = f"walk/{number:06d}"
                yield SourceFrame(number, number / FPS, image, f"{name}.jpg", name)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["onnx", "openvino", "torch", "clip"])
def test_exported_models_find_the_same_in_a_whole_video(
    kind: str, network: PoseNet, model_file: Path, clip_file: Path, tmp_path: Path
) -> None:
    """99 % of the joints within 0.5 px, in the loop whose boxes come from the poses."""
    native = load(clip_file if kind == "clip" else model_file, flip_test=False)
    path = tmp_path / "clip"
    if kind == "openvino":
        pytest.importorskip("openvino")
    if kind == "clip":
        export_video(native.network, path, native.header)  # type: ignore[arg-type]
    else:
        suffixes = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
        path = tmp_path / f"pose{suffixes[kind]}"
        export_network(network, path, Form(kind), header=native.header)
    distances = []
    for one, other in zip(
        *(
            find_poses(model, Walk(), two_persons)
            for model in (native, load(path, flip_test=False))
        ),
        strict=True,
    ):
        assert len(one[1]) == len(other[1]) > 0
        distances.append(np.linalg.norm(one[1].keypoints - other[1].keypoints, axis=2))
    assert len(distances) == 120
    assert np.mean(np.concatenate(distances) < 0.5) >= 0.99


class Walk(Source):
    """120 frames of a video."""

    kind, place, fps = "video", "walk.avi", FPS

    def __iter__(self) -> Iterator[SourceFrame]:
        for number in range(120):
            name = f"walk/{number:06d}"
            yield SourceFrame(number, number / FPS, picture(number % 40), f"{name}.jpg", name)
