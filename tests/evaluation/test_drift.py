from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from vipnas.data.formats.posetrack import TrackedPerson
from vipnas.data.formats.skeletons import read_skeleton
from vipnas.data.poses import TrackedPose
from vipnas.evaluation.drift import drift_of

SKELETON = read_skeleton("posetrack_18")


def test_drift_leaves_out_who_has_no_labelled_joint() -> None:
    labels_K3 = np.zeros((SKELETON.num_joints, 3), np.float32)
    unlabelled = TrackedPerson(1, 1, Path("1.jpg"), (0, 0, 20, 20), 100.0, labels_K3)
    labelled = replace(unlabelled, keypoints_K3=labels_K3 + np.array([10, 10, 1], np.float32))
    pose_K3 = labelled.keypoints_K3 + np.array([3.0, 4.0, 0.0])
    found = [
        TrackedPose(person, person.box_xywh, distance, pose_K3)
        for person, distance in ((labelled, 0), (unlabelled, 0), (unlabelled, 1), (labelled, 2))
    ]
    rows = drift_of(found, SKELETON)
    assert [(row["distance"], row["people"]) for row in rows] == [(0, 1), (2, 1)]
    assert {row["error_percent"] for row in rows} == {50.0}  # 5 pixels of a person of 10 x 10
