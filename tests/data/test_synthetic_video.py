from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from experiment_fixture import EXPERIMENT, files_below, write_experiment

from vipnas.cli.main import main
from vipnas.config.experiment import read_experiment
from vipnas.data.crops.clips import clips_of
from vipnas.data.formats.posetrack import PoseTrackData, TrackedPerson, read_posetrack
from vipnas.data.formats.results import keypoint_results
from vipnas.data.formats.skeletons import read_skeleton
from vipnas.evaluation.protocols import score
from vipnas.pipeline.experiment import Experiment
from vipnas.synthetic import images
from vipnas.synthetic.body import BODY_TO_CAMERA, Camera, Pose, Proportions, landmark
from vipnas.synthetic.camera import Conditions, random_conditions
from vipnas.synthetic.clip import Thing, Video, frames_of, ground_below, head_box, random_video
from vipnas.synthetic.draw import Canvas, Light
from vipnas.synthetic.figure import Person
from vipnas.synthetic.paint import random_look
from vipnas.synthetic.person import draw_person, keypoints_xyv, silhouette
from vipnas.synthetic.videos import JOINTS, synthesize_video
from vipnas.viz.inspect import describe

POSETRACK_18 = read_skeleton("posetrack_18")
POST_SEED = 1  # of a thing that is a post
SMALL: dict[str, Any] = {"num_frames": 4, "image_hw": [72, 96]}


def opened(directory: Path) -> PoseTrackData:
    return read_posetrack(directory / "annotations", directory, POSETRACK_18)


@pytest.fixture(scope="module")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("videos") / "set"
    synthesize_video(directory, 3, seed=1, people_per_video=(2, 2), **SMALL)
    return directory


def video_of(seed: int, difficulty: float = 1.0, speed: float = 1.0) -> Video:
    rng = np.random.default_rng(seed)
    return random_video(rng, 8, (96, 128), (1, 2), difficulty, speed)


def test_a_set_is_plain_posetrack(small_set: Path) -> None:
    data = opened(small_set)
    assert [(v.name, len(v.frames)) for v in data.videos] == [(f"00000{n}", 4) for n in (1, 2, 3)]
    for frame in data.frames:
        assert frame.is_labelled and frame.image_hw == (72, 96)
        image = cv2.imread(str(frame.image_path))
        assert image is not None and image.shape == (72, 96, 3)
        assert {person.track_id for person in frame.people} <= {0, 1}
        for person in frame.people:
            assert person.head_box_xywh is not None and person.area > 0
    annotations = json.loads((small_set / "annotations" / "000001.json").read_text())
    assert annotations["categories"][0]["keypoints"] == list(POSETRACK_18.joints)


def test_the_ground_truth_of_drawn_videos_scores_1(small_set: Path) -> None:
    data = opened(small_set)
    truth_NK3 = np.stack([person.keypoints_K3 for person in data.persons])
    results = keypoint_results(data.persons, truth_NK3[..., :2], np.ones(truth_NK3.shape[:2]))
    for result, truth_K3 in zip(results, truth_NK3, strict=True):
        found_K3 = truth_K3.astype(float)
        found_K3[found_K3[:, 2] > 0, 2] = 1  # not predicted where it is not labelled
        result["keypoints"] = found_K3.ravel().tolist()
    found: Any = score(data, results, ["pck", "pckh", "posetrack"])
    assert [figures.mean for figures in found.values()] == [1, 1, 1]


def test_people_are_followed_through_a_video(small_set: Path) -> None:
    """Frames follow on each other, and a person is near where they were, in the same clothes."""
    data = opened(small_set)
    clips = clips_of(data, 1)
    assert len(clips) >= 12
    for clip in clips:
        first, second = clip.people
        both = (first.keypoints_K3[:, 2] > 0) & (second.keypoints_K3[:, 2] > 0)
        moved = np.abs(first.keypoints_K3 - second.keypoints_K3)[both, :2]
        assert moved.max() < 0.25 * 72
        seen = both & (first.keypoints_K3[:, 2] > 1) & (second.keypoints_K3[:, 2] > 1)
        if seen.sum() > 8:
            colours = [np.median(_colours(person, seen), axis=0) for person in clip.people]
            assert np.abs(colours[0] - colours[1]).max() < 60


def _colours(person: TrackedPerson, chosen_K: np.ndarray) -> np.ndarray:
    stored = cv2.imread(str(person.image_path))
    assert stored is not None
    image = cv2.GaussianBlur(stored, (3, 3), 0)
    columns, rows = np.rint(person.keypoints_K3[chosen_K, :2].T).astype(int)
    return image[rows, columns].astype(float)


def test_videos_are_a_function_of_the_seed(
    small_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with several workers, and the first of a larger set are the smaller set."""
    monkeypatch.setattr(images, "POOL_SECONDS", 0.0)
    synthesize_video(tmp_path / "more", 4, 1, people_per_video=(2, 2), num_workers=2, **SMALL)
    synthesize_video(tmp_path / "other", 1, 2, people_per_video=(2, 2), **SMALL)
    first, more, other = map(files_below, (small_set, tmp_path / "more", tmp_path / "other"))
    assert all(more[name] == first[name] for name in first if name != "info.json")
    assert len(more) == len(first) + 5
    picture = "images/000001/000000.jpg"
    assert first[picture] != other[picture]
    before = {path: path.stat().st_mtime_ns for path in small_set.rglob("*")}
    synthesize_video(small_set, 3, seed=1, people_per_video=(2, 2), **SMALL)
    assert {path: path.stat().st_mtime_ns for path in small_set.rglob("*")} == before


@pytest.mark.parametrize("seed", range(4))
def test_the_backdrop_moves_as_places_in_the_scene_do(seed: int) -> None:
    move = video_of(seed).camera
    for seconds in (0.0, 0.1, 0.2):
        camera = move.at(seconds)
        for point in np.random.default_rng(0).uniform((-2, -1, 3), (2, 1, 9), (5, 3)):
            still = np.array((*move.still.project(point), 1.0))
            np.testing.assert_allclose(move.moved(camera) @ still, camera.project(point))
    at_rest = move.at(move.middle_s)
    assert at_rest.focal_px == move.still.focal_px and at_rest.centre_xy == move.still.centre_xy
    assert video_of(seed, difficulty=0).camera.at(0.1).focal_px == pytest.approx(
        video_of(seed, difficulty=0).camera.still.focal_px
    )


@pytest.mark.parametrize("seed", range(6))
def test_people_stay_on_the_ground_and_walk_on_it(seed: int) -> None:
    video = video_of(seed)
    for actor in video.actors:
        camera = video.camera.still
        up = (camera.world_rotation() @ BODY_TO_CAMERA)[:, 1]
        heights = []
        for seconds in np.linspace(0, 0.32, 5):
            person = actor.at(float(seconds), camera)
            heights.append(person.position_xyz @ up - ground_below(person, camera))
        np.testing.assert_allclose(heights, heights[0], atol=1e-9)
        middle = actor.at(actor.middle_s, camera)
        np.testing.assert_allclose(middle.position_xyz, actor.middle_xyz, atol=1e-9)


def upright(yaw: float = 0.0) -> tuple[Person, Camera]:
    look = replace(random_look(np.random.default_rng(2)), hair_style="short", backpack=False)
    return Person(Proportions(), Pose(yaw=yaw), look, (0.0, 0.0, 4.0)), Camera(300.0, (80.0, 120.0))


@pytest.mark.parametrize("yaw", [0.0, 90.0, 180.0])
def test_the_ends_of_the_head_are_where_it_is_drawn(yaw: float) -> None:
    person, camera = upright(yaw)
    canvas = Canvas(np.zeros((240, 160, 3), np.float32))
    draw_person(canvas, person, camera, Light((0, 0, -1), 1.0), 1)
    rows = dict(zip(JOINTS, keypoints_xyv(canvas, person, camera, JOINTS), strict=True))
    top_row = int(np.flatnonzero(silhouette(canvas).any(axis=1))[0])
    assert abs(rows["head_top"][1] - top_row) < 1.5 and rows["head_top"][2] == 2
    shoulders = (rows["left_shoulder"][1] + rows["right_shoulder"][1]) / 2
    assert rows["nose"][1] < rows["head_bottom"][1] < shoulders
    assert rows["head_bottom"][2] == 2
    left, top, width, height = head_box(person, camera)
    for name in ("head_top", "head_bottom", "left_eye" if yaw else "nose"):
        x, y = camera.project(landmark(person.body(camera), person.proportions, name))
        assert left - 1e-6 <= x <= left + width + 1.5
        assert top - 1e-6 <= y <= top + height + 1e-6
    assert 0.1 < height / (300 / 4 * 1.72) < 0.2  # a head is a seventh or so of the stature


def test_what_moves_fast_is_blurred() -> None:
    video = replace(video_of(3, speed=4.0), shutter_s=0.03)
    sharp = replace(video, shutter_s=0.0)
    frames = [
        [jpeg for jpeg, _ in frames_of(one, np.random.default_rng(0), JOINTS)]
        for one in (video, sharp)
    ]
    assert sum(blurred != still for blurred, still in zip(*frames, strict=True)) > 4
    edges = [
        np.mean([cv2.Laplacian(_grey(jpeg), cv2.CV_32F).std() for jpeg in one]) for one in frames
    ]
    assert edges[0] < edges[1]
    labels = [
        [people for _, people in frames_of(one, np.random.default_rng(0), JOINTS)]
        for one in (video, sharp)
    ]
    assert labels[0] == labels[1]


def test_light_and_focus_are_lost_for_a_few_frames_and_come_back() -> None:
    rng = np.random.default_rng(0)
    clips = [random_conditions(rng, 50, (240, 320), 1.0) for _ in range(40)]
    for worse in (
        np.array([[frame.blur_px for frame in clip] for clip in clips]) > 0.4,
        np.array([[frame.light for frame in clip] for clip in clips]) < 0.9,
    ):
        assert 0.05 < worse.mean() < 0.4
        changes = np.abs(np.diff(worse.astype(int), axis=1)).sum(axis=1)
        assert changes.max() >= 2 and worse.any(axis=1).mean() > 0.5
    assert random_conditions(rng, 3, (240, 320), 0.0) == [Conditions()] * 3


def test_a_passing_thing_hides_joints_for_a_while() -> None:
    """A post before somebody: first beside them, then before them, then past."""
    clear = replace(video_of(4, difficulty=0), things=())
    before, labels = _hidden(clear)
    post = Thing(POST_SEED, labels[4]["bbox"], px_per_s=1200.0, there_s=0.16)
    more = _hidden(replace(clear, things=(post,)))[0] - before
    assert more.min() == 0 and more.max() > 2
    assert more[0] == more[-1] == 0


def _hidden(video: Video) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """How many joints of the nearest person are hidden in each frame, and their annotations."""
    frames = frames_of(video, np.random.default_rng(0), JOINTS)
    labels = [people[-1] for _, people in frames]
    return np.array([label["keypoints"][2::3].count(1) for label in labels]), labels


def _grey(jpeg: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    return cv2.GaussianBlur(image, (3, 3), 0)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"num_videos": 0}, r"num_videos: expected 1 or more, got 0"),
        ({"num_frames": 0}, r"num_frames: expected 1 to 10000, got 0"),
        ({"num_frames": 10_001}, r"num_frames: expected 1 to 10000, got 10001"),
        ({"speed": 0.0}, r"speed: expected above 0, up to 10, got 0.0"),
        (
            {"people_per_video": (3, 2)},
            r"people_per_video: expected 1 <= lowest <= highest .*, got \[3, 2\]",
        ),
        ({"difficulty": 1.5}, r"difficulty: expected 0 to 1, got 1.5"),
    ],
)
def test_settings_out_of_range_are_refused(
    settings: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=complaint):
        synthesize_video(tmp_path / "set", **{"num_videos": 1, "seed": 0, **settings})
    assert list(tmp_path.iterdir()) == []


def test_the_command_makes_the_same_set(
    small_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, count = ["--output", str(tmp_path / "set")], ["--video", "--num-videos", "3"]
    size = ["--num-frames", "4", "--image-hw", "72", "96", "--people", "2", "2", "--seed", "1"]
    assert main(["synthesize", *place, *count, *size]) == 0
    assert files_below(tmp_path / "set") == files_below(small_set)
    assert main(["synthesize", *place, "--num-videos", "3"]) == 1
    assert (
        "--video: expected both --video and --num-videos, or --num-images"
        in capsys.readouterr().err
    )
    assert main(["synthesize", *place, "--num-images", "1", "--speed", "2"]) == 1
    assert "expected --video with this option" in capsys.readouterr().err


def test_an_experiment_draws_its_videos_and_holds_out_whole_ones(tmp_path: Path) -> None:
    source = {"num_train_videos": 3, "num_test_videos": 1, "people_per_video": [1, 1], **SMALL}
    data = {"synthetic_video": source, "val_persons": 2}
    document = {**EXPERIMENT, "skeleton": "posetrack_18", "data": data}
    config = read_experiment(write_experiment(tmp_path, document))
    experiment = Experiment(config, tmp_path / "run", tmp_path, torch.device("cpu"))
    parts = experiment.train_data, experiment.val_data, experiment.test_data
    videos = []
    for part in parts:
        assert isinstance(part, PoseTrackData)
        videos.append({video.frames[0].image_path.read_bytes() for video in part.videos})
    assert [len(found) for found in videos] == [2, 1, 1]
    assert len(set.union(*videos)) == 4
    assert len(experiment.training_crops) == len(experiment.train_data.persons)
    lines = describe(experiment.train_data)
    assert "videos: 2, frames: 8, of them 8 labelled, 0 with ignore regions" in lines
    assert any(line.startswith("frames of each of 2 tracks: median 4,") for line in lines)
    assert "labelled persons without a head box: 0" in lines


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (
            {"train": {"images": "x"}, "test": {"images": "x"}},
            "data.train: expected exactly one of annotations",
        ),
        (
            {"train": {"images": "x", "annotations": "a", "posetrack": "b"}},
            "data.train: expected exactly one of annotations",
        ),
        (
            {"synthetic_video": {"num_train_videos": 1, "num_test_videos": 1, "spede": 2}},
            "data.synthetic_video: .* got 'spede' .did you mean 'speed'",
        ),
    ],
)
def test_data_that_are_not_well_described(
    data: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    path = write_experiment(tmp_path, {**EXPERIMENT, "data": data})
    with pytest.raises(ValueError, match=complaint):
        read_experiment(path)
