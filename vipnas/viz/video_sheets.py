"""Contact sheets of the online loop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vipnas.data.crops.images import read_image, write_png
from vipnas.data.formats.posetrack import Frame, Video
from vipnas.data.formats.skeletons import Skeleton
from vipnas.data.poses import TrackedPose
from vipnas.viz.poses import draw_pose
from vipnas.viz.sheets import predicted_joints

COLUMNS = 4
TILE_WIDTH = 480
KEY_FRAME_COLOUR, FOLLOW_UP_COLOUR = (255, 255, 0), (0, 255, 255)


def video_sheet(
    path: Path,
    video: Video,
    found: Sequence[TrackedPose],
    skeleton: Skeleton,
    num_frames: int = 12,
    min_score: float = 0.2,
) -> None:
    """Write a PNG of the first frames of a video, with predicted poses and the boxes used.

    Boxes are yellow in key frames and cyan in follow-up frames. Labels tell the track and the
    number of frames since the key frame.

    Args:
        path: The PNG file.
        video: The video.
        found: Poses in its frames.
        skeleton: The joints.
        num_frames: Number of frames to show.
        min_score: Lowest score of a joint that is drawn.
    """
    frames = video.frames[:num_frames]
    tiles = [
        _tile(
            frame,
            [item for item in found if item.person.image_id == frame.image_id],
            skeleton,
            min_score,
        )
        for frame in frames
    ]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % COLUMNS)
    rows = [np.hstack(tiles[i : i + COLUMNS]) for i in range(0, len(tiles), COLUMNS)]
    write_png(path, np.vstack(rows))


def _tile(
    frame: Frame, found: Sequence[TrackedPose], skeleton: Skeleton, min_score: float
) -> NDArray[np.uint8]:
    image = read_image(frame.image_path, frame.image_hw, frame.ignore_exif)
    scale = TILE_WIDTH / image.shape[1]
    image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale), np.uint8)
    for item in found:
        joints_K3 = predicted_joints(
            item.keypoints_K3[:, :2] * scale, item.keypoints_K3[:, 2], min_score
        )
        image = draw_pose(image, joints_K3, skeleton)
        x, y, width, height = (round(side * scale) for side in item.box_xywh)
        colour = FOLLOW_UP_COLOUR if item.distance else KEY_FRAME_COLOUR
        cv2.rectangle(image, (x, y), (x + width, y + height), colour, 1)
        label = f"{item.person.track_id} +{item.distance}"
        cv2.putText(image, label, (x + 2, y + 12), cv2.FONT_HERSHEY_PLAIN, 0.9, colour)
    cv2.putText(image, str(frame.number), (4, 14), cv2.FONT_HERSHEY_PLAIN, 1, (255, 255, 255))
    return image
