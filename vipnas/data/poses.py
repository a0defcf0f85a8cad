"""Poses found in frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vipnas.data.formats.posetrack import Box, TrackedPerson
from vipnas.data.formats.results import keypoint_results


@dataclass(frozen=True)
class TrackedPose:
    """What was found of a person in a labelled frame: where it was looked for, how many frames
    after a key frame, and the pose in image pixels with a score for each joint."""

    person: TrackedPerson
    box_xywh: Box
    distance: int
    keypoints_K3: NDArray[np.float64]

    def result(self) -> dict[str, Any]:
        """In COCO results form, with the track."""
        (entry,) = keypoint_results(
            [self.person], self.keypoints_K3[None, :, :2], self.keypoints_K3[None, :, 2]
        )
        return {**entry, "track_id": self.person.track_id}
