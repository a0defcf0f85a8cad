"""Files beside a network: `details.json`, AP by joint, and pictures of predictions."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vipnas.arch.skeleton import Skeleton
from vipnas.data.formats.posetrack import PoseTrackData
from vipnas.data.poses import TrackedPose
from vipnas.evaluation.details import ap_by_joint, details_of
from vipnas.evaluation.evaluator import Evaluator
from vipnas.evaluation.oks import own_similarities
from vipnas.evaluation.sides import lost_joints, merged_pairs
from vipnas.files import to_plain, write_atomically
from vipnas.models.posenet import PoseNet
from vipnas.viz.joints import draw_ap_by_joint
from vipnas.viz.sheets import prediction_sheet
from vipnas.viz.video_sheets import video_sheet

log = logging.getLogger(__name__)

# N people, K joints

NUM_PICTURED = 6
# On the picture of the validation split.
NUM_VALIDATED = 16
JOINTS_FILE = "ap_by_joint.png"


def write_details(
    folder: Path, evaluator: Evaluator, xy_NK2: NDArray[np.float64], scores_NK: NDArray[np.float32]
) -> None:
    """Write `details.json`, `ap_by_joint.png`, and `predictions_best.png`, `_median`, `_worst`.

    Pictures have labels above predictions, of the people whose similarity is best, in the middle
    and worst. All joints are drawn, whatever their score. Pictures need annotated boxes: a box of a
    detector belongs to nobody. A left and a right joint of which one is lost, or that are found at
    one place, are a warning.

    Args:
        folder: Where the files go.
        evaluator: Scored the network.
        xy_NK2: Its predictions in image pixels.
        scores_NK: Their scores.
    """
    results = evaluator.results_of(xy_NK2, scores_NK)
    details = details_of(evaluator.ground_truth, results, evaluator.skeleton)
    write_atomically(folder / "details.json", json.dumps(to_plain(details)) + "\n")
    if details.ap_by_joint:
        draw_ap_by_joint(folder / JOINTS_FILE, {"network": details.ap_by_joint}, "test")
    _warn_of_lost_joints(folder, details.ap_by_joint, evaluator.skeleton)
    if evaluator.box_scores_N is not None:
        return
    persons = evaluator.crops.persons
    truth_NK3 = np.array([person.keypoints_K3 for person in persons])
    areas_N = np.array([person.area for person in persons])
    for pair in merged_pairs(xy_NK2, truth_NK3, areas_N, evaluator.skeleton):
        log.warning("%s: %s", folder, pair)
    similarities_N = own_similarities(xy_NK2, truth_NK3, areas_N, evaluator.skeleton.sigmas)
    order = np.argsort(-similarities_N, kind="stable")[: int((~np.isnan(similarities_N)).sum())]
    middle = max(0, (len(order) - NUM_PICTURED) // 2)
    for name, chosen in {
        "best": order[:NUM_PICTURED],
        "median": order[middle : middle + NUM_PICTURED],
        "worst": order[::-1][:NUM_PICTURED],
    }.items():
        if len(chosen):
            prediction_sheet(
                folder / f"predictions_{name}.png",
                [persons[number] for number in chosen],
                xy_NK2[chosen],
                scores_NK[chosen],
                evaluator.skeleton,
                min_score=0.0,
            )


def draw_predictions(folder: Path, evaluator: Evaluator, network: PoseNet) -> None:
    """Write `predictions_val.png`: labels and predictions of the first people of a split.

    Args:
        folder: Where the file goes.
        evaluator: Holds the people.
        network: A network, calibrated.
    """
    rows = slice(min(NUM_VALIDATED, len(evaluator.crops)))
    some = replace(evaluator.at(network.arch), crops=evaluator.crops.of(rows))
    sheet, persons = folder / "predictions_val.png", some.crops.persons
    prediction_sheet(sheet, persons, *some.predict(network), evaluator.skeleton, min_score=0.0)


def draw_supernet(folder: Path, evaluator: Evaluator, subnets: Mapping[str, PoseNet]) -> None:
    """Write `predictions_val.png` of the first subnet, and `ap_by_joint.png` of all.

    Args:
        folder: Where the files go.
        evaluator: Holds people of the validation split.
        subnets: Subnets, calibrated, by name.
    """
    draw_predictions(folder, evaluator, next(iter(subnets.values())))
    truth, skeleton = evaluator.ground_truth, evaluator.skeleton
    aps = {
        name: ap_by_joint(truth, evaluator.at(subnet.arch).results(subnet), skeleton)
        for name, subnet in subnets.items()
    }
    if any(aps.values()):
        draw_ap_by_joint(folder / JOINTS_FILE, aps, "validation")


def draw_clips(
    folder: Path,
    videos: PoseTrackData,
    found: Sequence[TrackedPose],
    ap_by_joint: Mapping[str, float],
) -> None:
    """Write `predictions_frames.png`, the first video of the test split, and `ap_by_joint.png`.

    A joint that is lost while its mirrored joint is found is a warning.

    Args:
        folder: Where the files go.
        videos: The test split.
        found: Poses in all of its frames.
        ap_by_joint: The AP by joint, by the protocol of PoseTrack; empty where it is not measured.
    """
    sheet = folder / "predictions_frames.png"
    video_sheet(sheet, videos.videos[0], found, videos.skeleton, min_score=0.0)
    if ap_by_joint:
        draw_ap_by_joint(folder / JOINTS_FILE, {"network": ap_by_joint}, "test")
    _warn_of_lost_joints(folder, ap_by_joint, videos.skeleton)


def _warn_of_lost_joints(
    folder: Path, ap_by_joint: Mapping[str, float], skeleton: Skeleton
) -> None:
    for lost in lost_joints(ap_by_joint, skeleton):
        log.warning("%s: %s", folder, lost)
