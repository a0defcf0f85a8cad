"""Metrics in detail, for people whose predictions are right but for one joint."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from evaluation_fixture import NUM_CROPS, evaluator_of

from vipnas.data.crops.images import write_png
from vipnas.data.formats.posetrack import PoseTrackData
from vipnas.data.formats.skeletons import COCO_17
from vipnas.evaluation.details import details_of, only_joint
from vipnas.evaluation.oks import mean_similarity, own_similarities
from vipnas.evaluation.sides import MAY_HELP
from vipnas.files import read_json
from vipnas.pipeline.details import JOINTS_FILE, draw_clips, write_details
from vipnas.space.image import SearchSpace

WRONG = COCO_17.joints.index("left_knee")


def test_the_wrong_joint_is_found(tiny_space: SearchSpace) -> None:
    evaluator = evaluator_of(tiny_space)
    truth_NK3 = np.array([person.keypoints_K3 for person in evaluator.crops.persons])
    xy_NK2 = truth_NK3[..., :2].astype(np.float64)
    xy_NK2[:, WRONG] += 200
    results = evaluator.results_of(xy_NK2, np.ones((NUM_CROPS, 17), np.float32))
    found = details_of(evaluator.ground_truth, results, COCO_17)
    expected = {name: float(name != "left_knee") for name in COCO_17.joints}
    assert found.ap_by_joint == pytest.approx(expected)
    # OKS is 16 / 17 = 0.94: right up to a threshold of 0.90, wrong at 0.95.
    assert len(found.precision) == 10
    assert found.precision["0.90"] == pytest.approx([1.0] * 101)
    assert found.precision["0.95"] == pytest.approx([0.0] * 101)
    assert found.ap_interval == pytest.approx((0.9, 0.9))
    assert (found.num_images, found.num_persons) == (NUM_CROPS, NUM_CROPS)


def test_the_other_joints_become_unlabelled(tiny_space: SearchSpace) -> None:
    truth = evaluator_of(tiny_space).ground_truth
    before = truth["annotations"][0]["keypoints"]
    entry = only_joint(truth, 2)["annotations"][0]
    assert entry["num_keypoints"] == 1
    assert entry["keypoints"] == [*[0] * 6, *before[6:9], *[0] * 42]
    assert truth["annotations"][0]["num_keypoints"] == 17


def test_people_without_labels_have_no_similarity() -> None:
    truth_NK3 = np.array([[[0, 0, 2], [4, 0, 0]], [[0, 0, 0], [4, 0, 0]]], float)
    own = own_similarities(truth_NK3[..., :2], truth_NK3, np.ones(2), (0.1, 0.1))
    assert own[0] == 1.0 and np.isnan(own[1])
    assert mean_similarity(truth_NK3[..., :2], truth_NK3, np.ones(2), (0.1, 0.1)) == 1.0


def test_files_and_pictures_are_written(
    tiny_space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = evaluator_of(tiny_space)
    monkeypatch.chdir(tmp_path)
    for person in evaluator.crops.persons:
        write_png(person.image_path, np.zeros((*tiny_space.input_hw, 3), np.uint8))
    truth_NK3 = np.array([person.keypoints_K3 for person in evaluator.crops.persons])
    write_details(
        tmp_path, evaluator, truth_NK3[..., :2].astype(float), np.ones((10, 17), np.float32)
    )
    assert read_json(tmp_path / "details.json")["ap_interval"] == pytest.approx([1.0, 1.0])
    pictures = {path.name for path in tmp_path.glob("predictions_*.png")}
    assert pictures == {f"predictions_{name}.png" for name in ("best", "median", "worst")}


def test_lost_joints_and_joints_at_one_place_are_warnings_at_the_folder(
    tiny_space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tuple[str, Path, object]] = []
    monkeypatch.setattr("vipnas.pipeline.details.lost_joints", lambda *_: ["a wrist"])
    monkeypatch.setattr("vipnas.pipeline.details.merged_pairs", lambda *_: ["both knees"])
    monkeypatch.setattr("vipnas.pipeline.details.prediction_sheet", lambda *_, **__: None)
    monkeypatch.setattr("vipnas.pipeline.details.log.warning", lambda *line: found.append(line))
    evaluator = evaluator_of(tiny_space)
    truth_NK3 = np.array([person.keypoints_K3 for person in evaluator.crops.persons])
    xy_NK2 = truth_NK3[..., :2].astype(float)
    write_details(tmp_path, evaluator, xy_NK2, np.ones((10, 17), np.float32))
    assert found == [("%s: %s", tmp_path, line) for line in ("a wrist", "both knees")]


def test_lost_joints_of_clips_are_warnings_at_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("vipnas.pipeline.details.video_sheet", lambda *_, **__: None)
    videos = SimpleNamespace(videos=[None], skeleton=COCO_17)
    aps = {"left_wrist": 0.01, "right_wrist": 0.4, "left_knee": 0.2, "right_knee": 0.5}
    draw_clips(tmp_path, cast(PoseTrackData, videos), [], aps)
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}: left_wrist has an AP of 0.01, right_wrist of 0.40; {MAY_HELP}"
    ]
    assert (tmp_path / JOINTS_FILE).exists()
