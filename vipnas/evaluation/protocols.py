"""Keypoint results scored by every protocol that a data set allows: COCO, PCK, PCKh, PoseTrack,
MOTA.

N persons, K joints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vipnas.data.formats.coco import Person, PoseData
from vipnas.data.formats.posetrack import Frame, PoseTrackData, TrackedPerson
from vipnas.data.formats.skeletons import Skeleton
from vipnas.errors import UserError
from vipnas.evaluation.coco_ap import coco_metrics, pycocotools_metrics
from vipnas.evaluation.metrics import Metrics
from vipnas.evaluation.mota import Mota, MotaRule, mota, track
from vipnas.evaluation.oks import best_pairs, pose_similarity
from vipnas.evaluation.pck import (
    NOT_IN_MPII_MEAN,
    PCK_THRESHOLD,
    PCKH_THRESHOLD,
    Pck,
    head_box_sizes,
    head_sizes,
    pck,
    torso_sizes,
)
from vipnas.evaluation.posetrack_ap import PoseTrackAp, posetrack_ap
from vipnas.files import did_you_mean

FloatArray = NDArray[np.float64]
Results = Sequence[dict[str, Any]]
Score = Metrics | Pck | PoseTrackAp | Mota

# Where nobody was found: no threshold reaches there.
FAR_AWAY_PX = 1e9


@dataclass(frozen=True)
class Rules:
    """How the protocols count, where there is a choice.

    Attributes:
        mota: A rule of `vipnas.evaluation.mota.mota`.
        official: Score COCO AP by pycocotools.
    """

    mota: MotaRule = "poseval"
    official: bool = False

    def __post_init__(self) -> None:
        if self.official and find_spec("pycocotools") is None:
            hint = "pip install 'vipnas[official]'"
            raise UserError("--official", "pycocotools installed", "none", hint)


DEFAULT_RULES = Rules()


def score(
    data: PoseData, results: Results, protocols: Sequence[str], rules: Rules = DEFAULT_RULES
) -> dict[str, Score]:
    """Return the scores of results in COCO results form, for images of `data`, by protocol.

    Results for skipped images do not count, as the persons in them do not.
    """
    results = [result for result in results if result["image_id"] not in data.skipped_images]
    return {name: PROTOCOLS[name](data, results, rules) for name in protocols}


def protocols_for(data: PoseData, wanted: Sequence[str] | None = None) -> list[str]:
    """The protocols wanted, or all that the data allow.

    Raises ValueError for one that is unknown or that the data do not allow, with what they lack.
    """
    for name in wanted or ():
        if name not in PROTOCOLS:
            raise ValueError(f"metric {name!r} is unknown; {did_you_mean(name, PROTOCOLS)}")
        if lacking := _lacking(name, data):
            raise ValueError(f"metric {name}: {lacking}")
    return list(wanted or (name for name in PROTOCOLS if _lacking(name, data) is None))


def _lacking(protocol: str, data: PoseData) -> str | None:
    try:
        if protocol == "pck":
            torso_sizes(_truth(data), data.skeleton)
        if protocol == "pckh":
            _head_sizes(data)
    except ValueError as error:
        return str(error)
    if protocol not in ("posetrack", "mota"):
        return None
    if not isinstance(data, PoseTrackData):
        return "the data are no videos; allowed: PoseTrack18 files"
    if _head_boxes(data) is None:
        return "somebody with a labelled joint has no head box (bbox_head), which it measures by"
    if protocol == "mota" and any(_shares_a_track(frame) for frame in data.frames):
        return "two people in a frame have the same track id, so that it cannot follow them"
    if protocol == "mota" and find_spec("motmetrics") is None:
        return "motmetrics is not here; allowed: pip install 'vipnas[posetrack]'"
    return None


def _shares_a_track(frame: Frame) -> bool:
    return len({person.track_id for person in frame.people}) < len(frame.people)


def _coco(data: PoseData, results: Results, rules: Rules) -> Metrics:
    metrics = pycocotools_metrics if rules.official else coco_metrics
    return metrics(data.ground_truth, results, data.skeleton)


def _pck(data: PoseData, results: Results, rules: Rules) -> Pck:
    truth_NK3 = _truth(data)
    sizes_N = torso_sizes(truth_NK3, data.skeleton)
    return pck(matched_joints(data, results), truth_NK3, sizes_N, PCK_THRESHOLD)


def _pckh(data: PoseData, results: Results, rules: Rules) -> Pck:
    joints = data.skeleton.joints
    left_out = [joints.index(name) for name in NOT_IN_MPII_MEAN if name in joints]
    xy_NK2 = matched_joints(data, results)
    return pck(xy_NK2, _truth(data), _head_sizes(data), PCKH_THRESHOLD, left_out)


def _posetrack(data: PoseData, results: Results, rules: Rules) -> PoseTrackAp:
    assert isinstance(data, PoseTrackData)
    return posetrack_ap(data.frames, results, data.skeleton)


def _mota(data: PoseData, results: Results, rules: Rules) -> Mota:
    """Of results without track ids, which no single-frame network gives, those of our tracker."""
    assert isinstance(data, PoseTrackData)
    tracked = all(result.get("track_id") is not None for result in results)
    with_ids = results if tracked else track(data.videos, results, data.skeleton)
    return mota(data.videos, with_ids, data.skeleton, rules.mota)


PROTOCOLS: dict[str, Callable[[PoseData, Results, Rules], Score]] = {
    "coco": _coco,
    "pck": _pck,
    "pckh": _pckh,
    "posetrack": _posetrack,
    "mota": _mota,
}


def matched_joints(data: PoseData, results: Results) -> FloatArray:
    """Joints (N, K, 2) in image pixels of the result that belongs to each person of `data.persons`.

    Results do not say whom they are of: in each image the most alike pair of a person and a result
    (by OKS) goes first. Persons for whom no result is left have their joints far away.
    """
    skeleton = data.skeleton
    xy_NK2 = np.full((len(data.persons), skeleton.num_joints, 2), FAR_AWAY_PX)
    results_of: dict[int, list[dict[str, Any]]] = {}
    for result in results:
        results_of.setdefault(result["image_id"], []).append(result)
    rows_of: dict[int, list[int]] = {}
    for row, person in enumerate(data.persons):
        rows_of.setdefault(person.image_id, []).append(row)
    for image_id, rows in rows_of.items():
        found = results_of.get(image_id, [])
        found_MK2 = np.array([result["keypoints"] for result in found], np.float64)
        found_MK2 = found_MK2.reshape(len(found), skeleton.num_joints, 3)[..., :2]
        alike_MN = _similarity(found_MK2, [data.persons[row] for row in rows], skeleton)
        for best, place in best_pairs(alike_MN):
            xy_NK2[rows[place]] = found_MK2[best]
    return xy_NK2


def _similarity(found_MK2: FloatArray, persons: Sequence[Person], skeleton: Skeleton) -> FloatArray:
    """OKS (M, N), with the area of the person alone, as in the COCO protocol."""
    columns = [
        pose_similarity(
            found_MK2,
            np.full(len(found_MK2), person.area),
            person.keypoints_K3[None, :, :2],
            np.array([person.area]),
            skeleton.sigmas,
            person.keypoints_K3[None, :, 2] > 0,
        )
        for person in persons
    ]
    return np.column_stack(columns)


def _truth(data: PoseData) -> NDArray[np.float32]:
    return np.stack([person.keypoints_K3 for person in data.persons])


def _head_sizes(data: PoseData) -> FloatArray:
    """By the head boxes where everybody has one, else from the neck to the top of the head."""
    boxes_N4 = _head_boxes(data)
    if boxes_N4 is not None:
        return head_box_sizes(boxes_N4)
    return head_sizes(_truth(data), data.skeleton)


def _head_boxes(data: PoseData) -> FloatArray | None:
    """Everybody's (N, 4), or None where somebody has none."""
    boxes = [p.head_box_xywh for p in data.persons if isinstance(p, TrackedPerson)]
    known = [box for box in boxes if box is not None]
    return np.array(known, np.float64) if len(known) == len(data.persons) else None
