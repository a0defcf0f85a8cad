"""Pseudo-labels: thresholds and files by hand, and read back as training data."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from onnx_fixture import write_constant_model

from vipnas.arch.skeleton import Skeleton
from vipnas.cli.main import main
from vipnas.data.formats.coco import Person, PoseData, read_coco
from vipnas.data.formats.skeletons import read_skeleton
from vipnas.deploy.foreign import open_pose_model
from vipnas.deploy.labels import LabelWriter, Thresholds, calibrated_thresholds, equal_thresholds
from vipnas.deploy.source import SourceFrame
from vipnas.deploy.writer import FramePoses
from vipnas.evaluation.precision import score_threshold

JOINTS = ("head", "left", "right", "hip", "foot")
SCORES = (0.9, 0.8, 0.7, 0.6, 0.1)
HW = (60, 80)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that finds five joints down the middle of a box, pictures and a video."""
    directory = tmp_path_factory.mktemp("labels")
    places = np.linspace(0.1, 0.9, 5)
    found = np.stack((np.full(5, 0.5), places, SCORES), axis=1)[None, None]
    write_constant_model(directory / "model.onnx", {"found": found.astype(np.float32)})
    skeleton = {
        "name": "five",
        "joints": list(JOINTS),
        "flip_pairs": [["left", "right"]],
        "limbs": [["head", "hip"]],
        "sigmas": [0.1] * 5,
    }
    (directory / "five.yaml").write_text(yaml.safe_dump(skeleton))
    description = {
        "model": "model.onnx",
        "skeleton": "five.yaml",
        "input": {"colour": "rgb"},
        "output": {"form": "coordinates", "columns": ["x", "y", "score"], "normalised": True},
        "box_padding": 1.0,
        "aspect": "stretch",
    }
    (directory / "model.yaml").write_text(yaml.safe_dump(description))
    (directory / "photos").mkdir()
    video = cv2.VideoWriter(
        str(directory / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, HW[::-1]
    )
    for number in range(3):
        picture = np.full((*HW, 3), 40 * number, np.uint8)
        cv2.imwrite(str(directory / "photos" / f"{number}.png"), picture)
        video.write(picture)
    video.release()
    return directory


@pytest.fixture
def five(directory: Path) -> Skeleton:
    return read_skeleton(str(directory / "five.yaml"))


def test_the_lowest_score_with_the_precision() -> None:
    scores, is_right = np.array([0.9, 0.8, 0.8, 0.5, 0.3]), np.array([1, 0, 1, 1, 0], bool)
    assert score_threshold(scores, is_right, 0.75) == 0.5  # 3 of 4
    assert score_threshold(scores, is_right, 0.6) == 0.3  # 3 of 5
    assert score_threshold(scores, is_right, 0.9) == 0.9  # equal scores are taken together
    assert score_threshold(scores, ~is_right, 0.9) == np.inf
    assert score_threshold(scores[:0], is_right[:0], 0.9) == np.inf


def test_thresholds_have_the_precision_on_labels(directory: Path, five: Skeleton) -> None:
    """Of 40 persons, the head is right in all, the other joints in none."""
    model = open_pose_model(str(directory / "model.yaml"))
    keypoints = np.array([[40, 6, 2], [0, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 0]], np.float32)
    path = directory / "photos" / "0.png"
    persons = tuple(
        Person(number, 0, path, (0.0, 0.0, 80.0, 60.0), 400.0, keypoints) for number in range(40)
    )
    data = PoseData(five, directory, persons, {})
    found = calibrated_thresholds(model, data, 0.9, min_score=0.2)
    np.testing.assert_allclose(found.scores_K[0], SCORES[0], rtol=1e-6)
    assert (found.scores_K[1:4] == np.inf).all()
    # The foot has no labels: it has the threshold of all joints together, the score of the head.
    assert found.scores_K[4] == found.scores_K[0]
    assert found.describe(five).startswith("head 0.90, left never")
    raised = calibrated_thresholds(model, data, 0.9, min_score=0.95)
    assert raised.scores_K[0] == 0.95


def test_a_file_is_read_back_with_joints_above_their_thresholds(
    five: Skeleton, tmp_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((*HW, 3), np.uint8))
    frame = SourceFrame(7, 0.0, np.zeros((*HW, 3), np.uint8), "0.png", "0", tmp_path / "0.png")
    xy = np.array([[10.0, 10], [20, 20], [30, 30], [40, 40], [50.126, 50]])
    outside = xy + [45, 0]  # the last two have x 85 and 95
    scores = np.array([[0.9, 0.5, 0.9, 0.9, 0.9]] * 2)
    thresholds = Thresholds(np.array([0.3, 0.6, 0.9, 0.3, 0.3]), "by hand")
    boxes = np.array([[5.0, 5, 55, 55], [50, 5, 80, 55]])
    found = FramePoses(frame, np.stack([xy, outside]), scores, boxes, box_scores=None)
    path = tmp_path / "data.json"
    writer = LabelWriter(path, five, thresholds, "model", from_detector=True)
    with writer:
        writer.write(found)
    assert (writer.num_persons, writer.num_images) == (1, 1)
    data = read_coco(path, tmp_path, five)
    (person,) = data.persons
    assert person.is_pseudo and person.image_id == 7
    assert person.box_xywh == (5, 5, 50, 50)
    expected = [[10, 10, 2], [0, 0, 0], [30, 30, 2], [40, 40, 2], [50.13, 50, 2]]
    np.testing.assert_allclose(person.keypoints_K3, np.array(expected, np.float32))
    document = json.loads(path.read_text())
    assert document["annotations"][0]["scores"] == scores[0].tolist()
    assert document["annotations"][0]["num_keypoints"] == 4
    assert document["info"] == {"pseudo_labels": True, "model": "model", "labelled": "by hand"}
    assert equal_thresholds(five, 0.3).scores_K.tolist() == [0.3] * 5


def test_of_a_camera_that_skipped_a_frame_the_next_is_labelled(
    five: Skeleton, tmp_path: Path
) -> None:
    writer = LabelWriter(
        tmp_path / "data.json", five, equal_thresholds(five, 0.3), "model", tmp_path, every=3
    )
    xy = np.full((1, 5, 2), 10.0)
    with writer:
        for index in (0, 2, 4, 5, 7):
            frame = SourceFrame(index, 0.0, np.zeros((*HW, 3), np.uint8), "", "")
            writer.write(FramePoses(frame, xy, np.ones((1, 5)), np.zeros((1, 4)), None))
    document = json.loads((tmp_path / "data.json").read_text())
    assert [image["id"] for image in document["images"]] == [0, 4, 7]


def label(directory: Path, output: Path, *more: str) -> int:
    return main(["label", str(directory / "model.yaml"), *more, "-o", str(output)])


def test_images_and_videos_are_labelled(
    directory: Path, five: Skeleton, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = directory / "photos"
    assert label(directory, tmp_path / "photos.json", str(photos)) == 0
    assert f"label: images: {photos}" in capsys.readouterr().out
    data = read_coco(tmp_path / "photos.json", photos, five)
    np.testing.assert_allclose(data.persons[0].keypoints_K3[:2], [[40, 6, 2], [40, 18, 2]], 1e-5)
    assert len(data.persons) == 3 and (data.persons[0].keypoints_K3[4] == 0).all()
    clip = str(directory / "clip.avi")
    assert label(directory, tmp_path / "clip.json", clip, "--every", "2") == 0
    frames = tmp_path / "clip_frames"
    assert sorted(path.name for path in frames.iterdir()) == ["000000.jpg", "000002.jpg"]
    assert len(read_coco(tmp_path / "clip.json", frames, five).persons) == 2
    labelled = ("--calibrate-on", str(tmp_path / "photos.json"), "--calibrate-images", str(photos))
    again = tmp_path / "again.json"
    assert label(directory, again, str(photos), *labelled, "--precision", "0.1") == 0
    assert "precision 0.1 on 3 labelled persons: head 0." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["photos", "--min-score", "0.95"],
            "expected a person with four joints to label",
        ),
        (["photos", "--precision", "0.9"], "--precision: expected --calibrate-on with this option"),
        (["photos", "--calibrate-on", "none.json"], "none.json: "),
        (["none"], "none: expected an image, a folder"),
        (["photos", "--every", "2"], "--every: expected a video with this option, got a source of"),
        (["clip.avi", "--min-score", "0.95"], "expected a person with four joints to label, got"),
    ],
)
def test_bad_input_is_one_line_and_no_file(
    directory: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(directory)
    assert label(directory, tmp_path / "data.json", *more) == 1
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("vipnas label: ") and message in line
    assert not list(tmp_path.iterdir())


def test_outputs_and_precisions_that_are_none(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = str(directory / "photos")
    assert label(directory, tmp_path / "data.txt", photos) == 1
    assert "--output: expected a .json file, got " in capsys.readouterr().err
    assert label(directory, directory / "five.yaml" / "a.json", photos) == 1
    assert "a.json: expected a file that can be written, got " in capsys.readouterr().err
    with pytest.raises(SystemExit):
        label(directory, tmp_path / "data.json", photos, "--min-score", "nan")
    assert "--min-score: expected a finite number, got 'nan'" in capsys.readouterr().err
    labelled = ("--calibrate-on", str(tmp_path / "none.json"), "--precision", "1.5")
    assert label(directory, tmp_path / "data.json", photos, *labelled) == 1
    assert "--precision: expected a number above 0, up to 1, got 1.5" in capsys.readouterr().err
