"""Score keypoint results by the protocols of a data set: COCO, PCK, PCKh, PoseTrack, MOTA.

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

FloatArray = NDArray[np.float64]
Results = Sequence[dict[str, Any]]
Score = Metrics | Pck | PoseTrackAp | Mota

# The joints of a person without a prediction: beyond every threshold.
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
    """Return the scores of results in the COCO results format, for images of `data`, by protocol.

    Results for skipped images do not count, as the persons in them do not.
    """
    results = [result for result in results if result["image_id"] not in data.skipped_images]
    return {name: PROTOCOLS[name](data, results, rules) for name in protocols}


def protocols_for(data: PoseData, wanted: Sequence[str] | None = None) -> list[str]:
    """Return the protocols wanted, or all that the data allow.

    Raises:
        UserError: A protocol is unknown, or the data lack something that it needs.
    """
    for name in wanted or ():
        if name not in PROTOCOLS:
            raise UserError.not_one_of("metric", PROTOCOLS, name)
        if lacking := _lacking(name, data):
            raise lacking.inside(f"{data.source}: metric {name}".removeprefix(": "))
    return list(wanted or (name for name in PROTOCOLS if _lacking(name, data) is None))


def _lacking(protocol: str, data: PoseData) -> UserError | None:
    """Return what the data lack for the protocol."""
    if protocol in ("pck", "pckh") and not data.persons:
        return UserError("", "labelled persons", "none")
    try:
        if protocol == "pck":
            torso_sizes(_truth(data), data.skeleton)
        if protocol == "pckh":
            _head_sizes(data)
    except UserError as error:
        return error
    if protocol not in ("posetrack", "mota"):
        return None
    if not isinstance(data, PoseTrackData):
        return UserError("", "PoseTrack18 files", "data without videos")
    if _head_boxes(data) is None:
        return UserError("bbox_head", "a head box for everybody with a labelled joint", "none")
    if protocol == "mota" and any(_shares_a_track(frame) for frame in data.frames):
        return UserError("track_id", "one person each in a frame", "two people with the same one")
    if protocol == "mota" and find_spec("motmetrics") is None:
        return UserError("", "motmetrics installed", "none", "pip install 'vipnas[posetrack]'")
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
    """Return the MOTA of results; those without track ids are tracked first."""
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
    """Return the joints (N, K, 2), in image pixels, of each person's matching result.

    Persons and results of an image are matched greedily, the most similar pair (by OKS) first. The
    joints of a person without a match are far away.
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
        similarity_MN = _similarity(found_MK2, [data.persons[row] for row in rows], skeleton)
        for best, place in best_pairs(similarity_MN):
            xy_NK2[rows[place]] = found_MK2[best]
    return xy_NK2


def _similarity(found_MK2: FloatArray, persons: Sequence[Person], skeleton: Skeleton) -> FloatArray:
    """Return the OKS (M, N), with the area of the person alone, as in the COCO protocol."""
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
    """Return sizes by head boxes if everybody has one, else from neck to top of the head."""
    boxes_N4 = _head_boxes(data)
    if boxes_N4 is not None:
        return head_box_sizes(boxes_N4)
    return head_sizes(_truth(data), data.skeleton)


def _head_boxes(data: PoseData) -> FloatArray | None:
    """Return the head boxes (N, 4), or None if a person has none."""
    boxes = [p.head_box_xywh for p in data.persons if isinstance(p, TrackedPerson)]
    known = [box for box in boxes if box is not None]
    return np.array(known, np.float64) if len(known) == len(data.persons) else None
