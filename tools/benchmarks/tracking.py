"""OKS AP, PoseTrack mAP, MOTA and milliseconds of `vipnas predict`'s loop on annotated videos.

    python -m tools.benchmarks.tracking ANNOTATIONS IMAGES MODEL ... [--detector SPEC]
                                        [--every 1 10] [--birth-scores 0.3 0.5] [--report FILE]

Each model runs once in the annotated boxes of every frame. Then the detector runs every so many
frames, with boxes from the poses in between, once for each score of --birth-scores.
Without --detector, the detector's boxes are the annotated ones. In PoseTrack's metrics, joints that
the model's skeleton lacks and those that score 0.2 or less are not predicted. The official rules
count (`poseval`). Milliseconds are CPU time of the network, a frame, with one thread.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from itertools import product
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch

from tools.benchmarks.command import exit_with, write_report
from vipnas.data.crops.boxes import xyxy_from_xywh
from vipnas.data.crops.images import read_image
from vipnas.data.formats.posetrack import PoseTrackData, Video, read_posetrack
from vipnas.data.formats.results import SCORE_THRESHOLD
from vipnas.data.formats.skeletons import Skeleton, read_skeleton
from vipnas.deploy.detected_boxes import DetectedBoxes, Detector
from vipnas.deploy.detectors import open_detector
from vipnas.deploy.loading import load
from vipnas.deploy.opening import open_poses
from vipnas.deploy.predictor import PoseFinder, TrackSettings, find_poses
from vipnas.deploy.result import UINT8, PoseResult
from vipnas.deploy.source import Kind, Source, SourceFrame
from vipnas.deploy.stopwatch import Stopwatch
from vipnas.evaluation.coco_ap import coco_metrics
from vipnas.evaluation.mota import mota
from vipnas.evaluation.posetrack_ap import posetrack_ap

# Joints of PoseTrack18 that other skeletons have in another place, or not at all.
DIFFERENT_JOINTS = {"nose", "head_bottom", "head_top", "left_ear", "right_ear"}


class AnnotatedVideo(Source):
    """The frames of an annotated video, as those of one file."""

    kind: Kind = "video"
    fps = 25.0

    def __init__(self, video: Video) -> None:
        self.place, self._video = video.name, video

    def __iter__(self) -> Iterator[SourceFrame]:
        for index, frame in enumerate(self._video.frames):
            name = frame.image_path.name
            yield SourceFrame(index, index / self.fps, read_image(frame.image_path), name, name)


@dataclass(frozen=True)
class AnnotatedBoxes:
    """The boxes of everybody who is annotated, as a detector."""

    video: Video

    def __call__(self, image: UINT8, name: str = "", index: int = 0) -> DetectedBoxes:
        boxes = [person.box_xywh for person in self.video.frames[index].people]
        boxes_xyxy = xyxy_from_xywh(np.array(boxes, np.float64).reshape(-1, 4))
        return DetectedBoxes(boxes_xyxy, np.ones(len(boxes), np.float32))


def results_of(
    video: Video, found: Sequence[PoseResult], skeleton: Skeleton
) -> list[dict[str, Any]]:
    """Return the poses of a video in the joints of its annotations, in COCO results form."""
    results = []
    for frame, poses in zip(video.frames, found, strict=True):
        shared = set(poses.skeleton.joints)
        if poses.skeleton.joints != skeleton.joints:
            shared -= DIFFERENT_JOINTS
        for entry in poses.to_coco(frame.image_id):
            joints_K3 = np.reshape(entry["keypoints"], (-1, 3))
            wanted_K3 = np.zeros((skeleton.num_joints, 3))
            for row, name in enumerate(skeleton.joints):
                if name in shared:
                    joint_3 = joints_K3[poses.skeleton.joints.index(name)]
                    wanted_K3[row] = joint_3 if joint_3[2] > SCORE_THRESHOLD else 0
            results.append({**entry, "keypoints": wanted_K3.ravel().tolist()})
    return results


def judged(
    data: PoseTrackData,
    model: PoseFinder,
    detectors: Sequence[Detector],
    settings: TrackSettings,
) -> str:
    """Return the columns of a table: how the loop does with a detector for each video."""
    results, num_ids, stopwatch = [], 0, Stopwatch(clock=process_time)
    for video, detector in zip(data.videos, detectors, strict=True):
        frames = find_poses(model, AnnotatedVideo(video), detector, settings, stopwatch)
        found = results_of(video, [poses for _, poses in frames], data.skeleton)
        num_ids += len({result["track_id"] for result in found})
        results += found
    tracks = mota(data.videos, results, data.skeleton)
    ap = posetrack_ap(data.frames, results, data.skeleton)
    oks_ap = coco_metrics(data.ground_truth, results, data.skeleton).ap
    ms = 1000 * stopwatch.seconds["network"] / len(data.frames)
    return (
        f"{oks_ap:.3f} | {ap.mean:.3f} | {tracks.mean:.3f} | {tracks.num_switches} | {num_ids} |"
        f" {ms:.1f} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("annotations", type=Path, help="a file of PoseTrack18, or a folder of such")
    parser.add_argument("images", type=Path, help="folder that the file names are below")
    parser.add_argument("models", nargs="+", help="as `vipnas predict` takes them")
    parser.add_argument("--detector", help="as `vipnas predict` takes it")
    parser.add_argument("--every", type=int, nargs="+", default=[1, 10])
    parser.add_argument(
        "--birth-scores",
        type=float,
        nargs="+",
        default=[TrackSettings().min_birth_score],
        help="detections that score less start nobody",
    )
    parser.add_argument("--report", type=Path, help="write the table there, as markdown")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = read_posetrack(options.annotations, options.images, read_skeleton("posetrack_18"))
    annotated: list[Detector] = [AnnotatedBoxes(video) for video in data.videos]
    detectors = annotated
    if options.detector is not None:
        detectors = [open_detector(options.detector)] * len(data.videos)
    lines = [
        f"# Tracking, {date.today()}",
        "",
        f"{options.annotations.name}, {len(data.frames)} frames; detector: {options.detector}.",
        "",
        "| model | boxes | births from | OKS AP | PoseTrack mAP | MOTA | switches | ids | ms |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for path in options.models:
        model = open_poses(path, partial(load, path, flip_test=False))
        lines.append(f"| {path} | annotated | | {judged(data, model, annotated, TrackSettings(1))}")
        for every, score in product(options.every, options.birth_scores):
            row = judged(data, model, detectors, TrackSettings(every, min_birth_score=score))
            lines.append(f"| {path} | every {every} frames | {score} | {row}")
    print("\n".join(lines))
    write_report(options.report, lines)
    return 0


if __name__ == "__main__":
    exit_with(main)
