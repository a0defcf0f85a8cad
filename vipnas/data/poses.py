"""Predicted poses in video frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vipnas.data.formats.posetrack import Box, TrackedPerson
from vipnas.data.formats.results import keypoint_results


@dataclass(frozen=True)
class TrackedPose:
    """The predicted pose of a person in a labelled frame.

    Attributes:
        person: The annotated person.
        box_xywh: Box that the network was given, in image pixels.
        distance: Number of frames since the key frame.
        keypoints_K3: x and y in image pixels, and score of each joint.
    """

    person: TrackedPerson
    box_xywh: Box
    distance: int
    keypoints_K3: NDArray[np.float64]

    def result(self) -> dict[str, Any]:
        """Return the pose in COCO results form, with its track."""
        (entry,) = keypoint_results(
            [self.person], self.keypoints_K3[None, :, :2], self.keypoints_K3[None, :, 2]
        )
        return {**entry, "track_id": self.person.track_id}
