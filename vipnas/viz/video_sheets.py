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
from vipnas.viz.poses import draw_box, draw_poses, draw_text

COLUMNS = 4
TILE_WIDTH, TEXT_PX = 480, 11
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
    xy_NK2 = [item.keypoints_K3[:, :2] * scale for item in found]
    scores_NK = [item.keypoints_K3[:, 2] for item in found]
    image = draw_poses(image, xy_NK2, scores_NK, skeleton, min_score=min_score)
    for item in found:
        x, y, width, height = (side * scale for side in item.box_xywh)
        colour = FOLLOW_UP_COLOUR if item.distance else KEY_FRAME_COLOUR
        draw_box(image, (x, y, x + width, y + height), colour)
        draw_text(image, f"{item.person.track_id} +{item.distance}", (x, y), TEXT_PX, colour)
    draw_text(image, str(frame.number), (0, 0), TEXT_PX, (255, 255, 255))
    return image
