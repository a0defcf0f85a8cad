from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiment_fixture import EXPERIMENT, write_experiment

from vipnas.cli.main import main
from vipnas.config.experiment import read_experiment
from vipnas.data.formats.coco import PoseData
from vipnas.data.formats.posetrack import PoseTrackData, read_posetrack
from vipnas.data.formats.results import keypoint_results, write_results
from vipnas.data.formats.skeletons import COCO_17, read_skeleton
from vipnas.evaluation.protocols import FAR_AWAY_PX, matched_joints, protocols_for
from vipnas.pipeline.experiment import Experiment

FILES: dict[str, dict[str, Any]] = {
    "coco_sample": {
        "annotations": "coco_sample/person_keypoints_train2017.json",
        "images": "coco_sample/train2017",
    },
    "lspet": {"annotations": "lspet/test.json", "images": "lspet/images"},
    "bonn_video": {"posetrack": "bonn_video/060470979.json", "images": "bonn_video"},
}
ALLOWED = {
    "coco_sample": ["coco", "pck"],
    "lspet": ["coco", "pck"],
    "bonn_video": ["coco", "pck", "pckh", "posetrack", "mota"],
}


def results_of(data: PoseData, keypoints_NK3: np.ndarray) -> list[dict[str, Any]]:
    return keypoint_results(data.persons, keypoints_NK3[..., :2], np.ones(keypoints_NK3.shape[:2]))


def truth_of(data: PoseData) -> np.ndarray:
    return np.stack([person.keypoints_K3 for person in data.persons])


def opened(directory: Path, data_root: Path, name: str) -> Experiment:
    import torch

    document = {**EXPERIMENT, "data": {"train": FILES[name], "test": FILES[name]}}
    if name == "bonn_video":
        document["skeleton"] = "posetrack_18"
    config = read_experiment(write_experiment(directory, document))
    return Experiment(config, directory / "run", data_root, torch.device("cpu"))


@pytest.mark.parametrize("name", FILES)
def test_the_ground_truth_as_prediction_has_all_it_can_have(
    name: str, vipnas_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through the command, with every protocol that the data allow."""
    data = opened(tmp_path, vipnas_data, name).test_data
    results = tmp_path / "truth.json"
    write_results(results, results_of(data, truth_of(data)))
    places = ["--data-root", str(vipnas_data), "--from-results", str(results)]
    assert main(["evaluate", str(tmp_path / "experiment.yaml"), *places, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ALLOWED[name]
    means = {key: figures.get("ap", figures.get("mean")) for key, figures in found.items()}
    # A precision of 1 is 1 - 2.2e-16 where one person stands alone, as pycocotools divides.
    assert means.pop("coco") == pytest.approx(1, abs=1e-12)
    assert set(means.values()) == {1.0}
    assert isinstance(data, PoseTrackData) == (name == "bonn_video")


def test_what_the_data_do_not_allow_is_said(tiny_data: PoseData) -> None:
    assert protocols_for(tiny_data) == ["coco", "pck"]
    with pytest.raises(ValueError, match="metric posetrack: expected PoseTrack18 files"):
        protocols_for(tiny_data, ["coco", "posetrack"])
    with pytest.raises(ValueError, match="metric pckh: skeleton coco_17: expected a joint neck"):
        protocols_for(tiny_data, ["pckh"])
    with pytest.raises(ValueError, match="metric: expected .* got 'pkc' .did you mean 'pck'"):
        protocols_for(tiny_data, ["pkc"])


def test_results_are_matched_to_people_by_likeness(tiny_data: PoseData) -> None:
    """In any order, each to one person; who is left has nothing near."""
    truth_NK3 = truth_of(tiny_data)
    results = results_of(tiny_data, truth_NK3 + (0.5, 0.5, 0))
    found = matched_joints(tiny_data, results[::-1])
    np.testing.assert_allclose(found, truth_NK3[..., :2] + 0.5, atol=1e-5)
    found = matched_joints(tiny_data, results[1:])
    assert (found[0] == FAR_AWAY_PX).all()
    np.testing.assert_allclose(found[1:], truth_NK3[1:, :, :2] + 0.5, atol=1e-5)
    twice = matched_joints(tiny_data, [*results, *results])
    np.testing.assert_array_equal(twice, matched_joints(tiny_data, results))


def test_posetrack_is_read_by_an_experiment_as_by_itself(vipnas_data: Path, tmp_path: Path) -> None:
    data = opened(tmp_path, vipnas_data, "bonn_video").test_data
    root = vipnas_data / "bonn_video"
    alone = read_posetrack(root / "060470979.json", root, read_skeleton("posetrack_18"))
    assert isinstance(data, PoseTrackData)
    assert [len(frame.people) for frame in data.frames] == [len(f.people) for f in alone.frames]
    assert data.ground_truth == alone.ground_truth


@pytest.fixture
def tiny_data(tmp_path: Path) -> PoseData:
    from vipnas.data.formats.coco import read_coco
    from vipnas.synthetic.images import synthesize

    synthesize(tmp_path / "set", 3, seed=2, image_hw=(96, 128), people_per_image=(2, 3))
    return read_coco(tmp_path / "set" / "annotations.json", tmp_path / "set" / "images", COCO_17)
