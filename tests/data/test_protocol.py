"""The parts of the protocol together: crops, heatmaps, coordinates, suppression, figures.

A perfect network gives the targets of the true joints; what is lost then is lost by the protocol.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vipnas.data.codecs.heatmap import CODECS, HeatmapCodec, flip_back, make_codec
from vipnas.data.crops.crops import Crops, fixed_crops
from vipnas.data.formats.coco import PoseData, read_coco
from vipnas.data.formats.detections import read_detections
from vipnas.data.formats.results import keypoint_results
from vipnas.data.formats.skeletons import COCO_17
from vipnas.evaluation.coco_ap import coco_metrics
from vipnas.evaluation.oks import suppress

INPUT_HW, HEATMAP_HW = (128, 96), (32, 24)


@pytest.fixture
def data(tiny_coco: Any) -> PoseData:
    for entry in tiny_coco.document["annotations"]:  # boxes that hold all joints: no crop cuts any
        x, y, width, height = entry["bbox"]
        entry["bbox"] = [x - 1, y - 1, width + 2, height + 2]
    return read_coco(tiny_coco.write(), tiny_coco.image_root, COCO_17)


def perfect_heatmaps(crops: Crops, codec: HeatmapCodec, mirrored: bool) -> torch.Tensor:
    keypoints = crops.keypoints_BK3.clone()
    if mirrored:
        keypoints = keypoints[:, list(COCO_17.flip_order)]
        keypoints[..., 0] = codec.input_hw[1] - 1 - keypoints[..., 0]
    return codec.encode(keypoints)[0]


def perfect_results(data: PoseData, codec: HeatmapCodec, flip_test: bool) -> Any:
    crops = fixed_crops(data.persons, COCO_17, INPUT_HW, span_hw=codec.span_hw)
    heatmaps = perfect_heatmaps(crops, codec, mirrored=False)
    if flip_test:
        mirrored = perfect_heatmaps(crops, codec, mirrored=True)
        back = flip_back(mirrored, COCO_17.flip_order, shift=codec.shift_flipped)
        heatmaps = (heatmaps + back) / 2
    xy, scores = codec.decode(heatmaps)
    return crops, crops.to_image(xy), scores.numpy()


@pytest.mark.parametrize("flip_test", [False, True])
@pytest.mark.parametrize("name", CODECS)
def test_a_perfect_network_finds_everybody(data: PoseData, name: str, flip_test: bool) -> None:
    codec = make_codec(name, INPUT_HW, HEATMAP_HW)
    crops, xy, scores = perfect_results(data, codec, flip_test)
    truth = np.stack([person.keypoints_K3 for person in data.persons])
    labelled = truth[..., 2] > 0
    scale = np.array([matrix[0, 0] for matrix in crops.image_from_input_B23])  # image px per input
    error = np.linalg.norm(xy - truth[..., :2], axis=2) / scale[:, None]  # input pixels
    # The shifted flip is a pixel off, half of it after the mean; only udp needs no shift.
    limit = {"quarter": 1.5, "dark": 0.15, "udp": 0.15}[name]
    limit += 0.6 if flip_test and name != "udp" else 0
    assert error[labelled].max() <= limit
    results = keypoint_results(data.persons, xy, scores)
    assert coco_metrics(data.ground_truth, results, COCO_17).ap > 0.98


def test_detections_in_place_of_annotated_boxes(data: PoseData, tmp_path: Path) -> None:
    """Everybody detected twice; without suppression the second counts as wrong."""
    entries = []
    for person in data.persons:
        for score, move in ((0.9, 0.0), (0.8, 0.5)):
            x, y, width, height = person.box_xywh
            box = [x + move, y, width, height]
            entries.append(
                {"image_id": person.image_id, "category_id": 1, "bbox": box, "score": score}
            )
    path = tmp_path / "detections.json"
    path.write_text(json.dumps(entries))
    detections = read_detections(path, data)
    assert len(detections.persons) == 2 * len(data.persons)
    xy = np.stack([person.keypoints_K3[:, :2] for person in data.persons]).repeat(2, axis=0)
    joint_scores = np.full(xy.shape[:2], 0.5)
    results = keypoint_results(detections.persons, xy, joint_scores, detections.scores_N)
    assert [result["score"] for result in results[:2]] == pytest.approx([0.45, 0.4])
    areas = np.array([person.area for person in detections.persons])
    for method in ("hard", "soft"):
        kept = suppress(results, areas, COCO_17, method)
        metrics = coco_metrics(data.ground_truth, kept, COCO_17)
        assert metrics.ap == pytest.approx(1.0)
    assert len(suppress(results, areas, COCO_17)) == len(data.persons)
