"""Poses in an image, and checks of images and boxes.

N persons, K keypoints, H W height and width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vipnas.arch.skeleton import Skeleton
from vipnas.data.formats.results import coco_results
from vipnas.errors import UserError
from vipnas.viz.poses import draw_poses

if TYPE_CHECKING:
    import pandas

UINT8 = NDArray[np.uint8]


@dataclass(frozen=True)
class PoseResult:
    """Poses found in one image.

    Attributes:
        keypoints: (N, K, 2), x and y in pixels of the image.
        scores: (N, K); what a score means is in the header of the model.
        boxes_xyxy: (N, 4), where the poses were looked for.
        image: (H, W, 3), RGB.
        skeleton: That of the poses.
        ids: (N,), the same for a person in all frames of a video; None without tracking.
        index: Number of the frame in its source, from 0.
        time_s: Seconds since the first frame.
        box_scores: (N,), the detector's; None where nothing says them.

    Example:
        >>> poses = model.predict(image)
        >>> len(poses), poses.boxes_xyxy.tolist()
        (1, [[0.0, 0.0, 64.0, 64.0]])
        >>> poses.plot().shape == image.shape
        True
        >>> sorted(poses.to_coco(image_id=7)[0])
        ['category_id', 'image_id', 'keypoints', 'score']
    """

    keypoints: NDArray[np.float64]
    scores: NDArray[np.float32]
    boxes_xyxy: NDArray[np.float64]
    image: UINT8
    skeleton: Skeleton
    ids: NDArray[np.int64] | None = None
    index: int = 0
    time_s: float = 0.0
    box_scores: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.boxes_xyxy)

    def plot(
        self,
        min_score: float = 0.2,
        boxes: bool = False,
        bgr: bool = False,
        ids: bool = True,
        onto: UINT8 | None = None,
    ) -> UINT8:
        """Return the image with all poses.

        Args:
            min_score: Joints that score less are left out.
            boxes: Draw the boxes, too.
            bgr: Return the picture in the order of OpenCV, not in RGB.
            ids: Write the ids of tracks, where there are tracks.
            onto: The image in the order that is returned: drawn on in place of a copy.
        """
        boxes_xyxy, shown_ids = self.boxes_xyxy if boxes else None, self.ids if ids else None
        found = self.keypoints, self.scores, self.skeleton
        return draw_poses(self.image, *found, boxes_xyxy, shown_ids, min_score, bgr, onto)

    def to_coco(self, image_id: int | None = None) -> list[dict[str, Any]]:
        """Return one entry a person in the COCO results format, with `track_id` where there is one.

        A person's score is the mean of the joints' scores above 0.2, times that of the box.

        Args:
            image_id: COCO's id of the image; by default the number of the frame.
        """
        image_ids = [self.index if image_id is None else image_id] * len(self)
        entries = coco_results(image_ids, self.keypoints, self.scores, self.box_scores)
        if self.ids is not None:
            for entry, track_id in zip(entries, self.ids.tolist(), strict=True):
                entry["track_id"] = track_id
        return entries

    def to_dataframe(self) -> pandas.DataFrame:
        """Return one row a person: frame, time, track, score, box, joints.

        The columns are those of the `.csv` of `vipnas predict`, without the file name. `track_id`
        is missing (`<NA>`) without tracking. Needs pandas (`pip install 'vipnas[pandas]'`).

        Raises:
            UserError: pandas is not installed.
        """
        return _dataframe(self)


def number_columns(skeleton: Skeleton) -> list[str]:
    """Return the names of a box's numbers, and of x, y and score of each joint."""
    joints = [f"{joint}_{what}" for joint in skeleton.joints for what in ("x", "y", "score")]
    return ["left", "top", "right", "bottom", *joints]


def _dataframe(poses: PoseResult) -> pandas.DataFrame:
    try:
        import pandas  # optional dependency
    except ImportError:
        hint = "pip install 'vipnas[pandas]'"
        raise UserError("to_dataframe", "pandas installed", "none", hint) from None
    entries = poses.to_coco()
    track_ids = [entry.get("track_id", pandas.NA) for entry in entries]
    facts = {
        "frame": np.full(len(poses), poses.index),
        "time_s": np.full(len(poses), poses.time_s),
        "track_id": pandas.array(track_ids, "Int64"),
        "score": np.array([entry["score"] for entry in entries], np.float64),
    }
    joints_NK3 = np.concatenate((poses.keypoints, poses.scores[..., None]), axis=2)
    joints_NX = joints_NK3.reshape(len(poses), 3 * poses.skeleton.num_joints)
    numbers_NX = np.column_stack((poses.boxes_xyxy, joints_NX))
    numbers = pandas.DataFrame(numbers_NX, columns=number_columns(poses.skeleton))
    return pandas.concat((pandas.DataFrame(facts), numbers), axis=1)


def checked_image(image: UINT8, bgr: bool) -> UINT8:
    """Return an image as RGB; raise UserError for another form than uint8 (H, W, 3)."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3:
        raise UserError("image", "a uint8 array (H, W, 3)", _form(image))
    if image.shape[2] != 3 or not image.size:
        raise UserError("image", "(H, W, 3)", str(image.shape))
    return np.ascontiguousarray(image[..., ::-1] if bgr else image)


def checked_boxes(boxes_xyxy: ArrayLike | None, image: UINT8) -> NDArray[np.float64]:
    """Return boxes (N, 4), the image for None; raise UserError for boxes without area."""
    height, width = image.shape[:2]
    if boxes_xyxy is None:
        return np.array([[0.0, 0.0, width, height]])
    boxes_N4 = np.asarray(boxes_xyxy, np.float64)
    if boxes_N4.size == 0:
        return np.empty((0, 4))
    if boxes_N4.ndim != 2 or boxes_N4.shape[1] != 4:
        raise UserError("boxes_xyxy", "(N, 4)", str(boxes_N4.shape))
    good_N = np.isfinite(boxes_N4).all(axis=1) & (boxes_N4[:, 2:] > boxes_N4[:, :2]).all(axis=1)
    if not good_N.all():
        row = int(np.argmin(good_N))
        place = f"boxes_xyxy[{row}]"
        raise UserError(place, "left < right and top < bottom", str(boxes_N4[row].tolist()))
    return boxes_N4


def _form(image: object) -> str:
    if isinstance(image, np.ndarray):
        return f"{image.shape} of {image.dtype}"
    return type(image).__name__
