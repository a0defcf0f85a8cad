"""Pseudo-labels: the joints that a model finds, as a COCO annotation file.

N persons, K joints.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vipnas.data.crops.images import read_image
from vipnas.data.formats.coco import PERSON_CATEGORY, PoseData
from vipnas.data.formats.coco_annotations import AREA_OF_BOX, box_around_joints
from vipnas.data.formats.skeletons import Skeleton
from vipnas.deploy.pose_files import SpoolWriter
from vipnas.deploy.predictor import PoseFinder
from vipnas.deploy.writer import FramePoses
from vipnas.errors import UserError
from vipnas.evaluation.oks import joint_similarity
from vipnas.evaluation.online import LEAST_JOINTS
from vipnas.evaluation.precision import score_threshold
from vipnas.files import write_atomically

# A joint is right from this keypoint similarity on, which is 1 at the label.
RIGHT_SIMILARITY = 0.5
# With fewer labels, a joint has the threshold of all joints together.
LEAST_LABELS = 30
JPEG_QUALITY = 95


@dataclass(frozen=True)
class Thresholds:
    """The lowest score of each joint that is labelled.

    Attributes:
        scores_K: The scores; infinity for a joint that is never labelled.
        origin: How they were chosen, for the annotation file.
    """

    scores_K: NDArray[np.float64]
    origin: str

    def describe(self, skeleton: Skeleton) -> str:
        """Return the thresholds by the names of the joints."""
        pairs = zip(skeleton.joints, self.scores_K.tolist(), strict=True)
        return ", ".join(
            f"{name} {'never' if score == np.inf else f'{score:.2f}'}" for name, score in pairs
        )


def equal_thresholds(skeleton: Skeleton, min_score: float) -> Thresholds:
    """Return the same threshold for every joint."""
    return Thresholds(np.full(skeleton.num_joints, min_score), f"score from {min_score:g}")


def calibrated_thresholds(
    model: PoseFinder, data: PoseData, precision: float, min_score: float = 0.0
) -> Thresholds:
    """Choose thresholds by labels: the joints above them are right with the given precision.

    The model is given the labelled boxes. A joint is right if its similarity to the label, as in
    the object keypoint similarity, is at least 0.5.

    Args:
        model: Finds the joints.
        data: Labelled persons with the joints of the model.
        precision: Wanted share of right joints, above 0, up to 1.
        min_score: Lower bound of all thresholds.
    """
    scores_NK, is_right_NK, is_labelled_NK = _compared(model, data)
    pooled = score_threshold(scores_NK[is_labelled_NK], is_right_NK[is_labelled_NK], precision)
    scores_K = np.full(model.skeleton.num_joints, pooled)
    for joint in range(len(scores_K)):
        rows = is_labelled_NK[:, joint]
        if rows.sum() >= LEAST_LABELS:
            scores_K[joint] = score_threshold(
                scores_NK[rows, joint], is_right_NK[rows, joint], precision
            )
    origin = f"precision {precision:g} on {len(data.persons)} labelled persons"
    return Thresholds(np.maximum(scores_K, min_score), origin)


def _compared(
    model: PoseFinder, data: PoseData
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return scores, which joints are right, and which are labelled, each (N, K)."""
    scores, similarities, labels = [], [], []
    ordered = sorted(data.persons, key=lambda person: str(person.image_path))
    for path, group in groupby(ordered, key=lambda person: person.image_path):
        persons = list(group)
        image = read_image(path, persons[0].image_hw, persons[0].ignore_exif)
        boxes_N4 = np.array([person.box_xywh for person in persons])
        boxes_N4[:, 2:] += boxes_N4[:, :2]
        poses = model.predict(image, boxes_N4)
        truth_NK3 = np.stack([person.keypoints_K3 for person in persons])
        areas_N = np.array([person.area for person in persons])
        scores.append(poses.scores)
        similarities.append(
            joint_similarity(poses.keypoints, truth_NK3[..., :2], areas_N, model.skeleton.sigmas)
        )
        labels.append(truth_NK3[..., 2] > 0)
    is_right_NK = np.concatenate(similarities) >= RIGHT_SIMILARITY
    return np.concatenate(scores).astype(np.float64), is_right_NK, np.concatenate(labels)


class LabelWriter(SpoolWriter):
    """A COCO annotation file of pseudo-labels; frames of a video are written as images beside it.

    Joints below their threshold or outside of the image are not labelled. Persons with fewer than
    four labelled joints, and images without persons, are left out.

    Args:
        path: The annotation file.
        skeleton: The joints.
        thresholds: Which joints are labelled.
        model: Name of the model, for the file.
        frames: Folder for the frames of a video; None for images, which are files already.
        from_detector: Whether boxes are a detector's; otherwise they are put around the joints.
        every: Label every so many frames; where a live source skipped one, the next.
    """

    def __init__(
        self,
        path: Path,
        skeleton: Skeleton,
        thresholds: Thresholds,
        model: str,
        frames: Path | None = None,
        from_detector: bool = False,
        every: int = 1,
    ) -> None:
        info = {"pseudo_labels": True, "model": model, "labelled": thresholds.origin}
        super().__init__(path, f'{{"info": {json.dumps(info)},\n"annotations": [')
        self._skeleton, self._thresholds = skeleton, thresholds
        self._frames, self._from_detector, self._every = frames, from_detector, every
        self._images: list[str] = []
        self._num_images_after = [0]
        self._last_step = -1
        self.num_persons = 0

    @property
    def num_images(self) -> int:
        """Number of images with persons so far."""
        return len(self._images)

    def _text(self, found: FramePoses) -> str:
        height, width = found.frame.image.shape[:2]
        step = found.frame.index // self._every
        rows = range(len(found.keypoints)) if step > self._last_step else ()
        self._last_step = step
        entries = [
            entry for row in rows if (entry := self._entry(found, row, (height, width))) is not None
        ]
        if entries:
            name = self._file_name(found)
            image = {
                "id": found.frame.index,
                "file_name": name,
                "width": width,
                "height": height,
            }
            self._images.append(json.dumps(image))
        texts = []
        for entry in entries:
            self.num_persons += 1
            separator = ",\n" if self.num_persons > 1 else "\n"
            texts.append(separator + json.dumps({"id": self.num_persons, **entry}))
        self._num_images_after.append(len(self._images))
        return "".join(texts)

    def _entry(
        self, found: FramePoses, row: int, image_hw: tuple[int, int]
    ) -> dict[str, Any] | None:
        """Return the annotation of a person, None for one with too few joints."""
        x_K, y_K = np.asarray(found.keypoints[row], np.float64).T
        scores_K = np.asarray(found.scores[row], np.float64)
        is_inside_K = (x_K >= 0) & (y_K >= 0) & (x_K < image_hw[1]) & (y_K < image_hw[0])
        is_labelled_K = is_inside_K & (scores_K >= self._thresholds.scores_K)
        if is_labelled_K.sum() < min(LEAST_JOINTS, len(scores_K)):
            return None
        visibility_K = 2.0 * is_labelled_K
        joints_K3 = np.stack((x_K, y_K, visibility_K), axis=1) * is_labelled_K[:, None]
        keypoints = [round(value, 2) for value in joints_K3.ravel().tolist()]
        box_xywh = [round(value, 2) for value in self._box(found, row, keypoints)]
        track = {} if found.ids is None else {"track_id": int(found.ids[row])}
        return {
            "image_id": found.frame.index,
            "category_id": PERSON_CATEGORY,
            "iscrowd": 0,
            "bbox": box_xywh,
            "area": round(AREA_OF_BOX * box_xywh[2] * box_xywh[3], 2),
            "keypoints": [int(v) if index % 3 == 2 else v for index, v in enumerate(keypoints)],
            "num_keypoints": int(is_labelled_K.sum()),
            "scores": [round(score, 4) for score in scores_K.tolist()],
            "score": round(float(scores_K[is_labelled_K].mean()), 4),
            **track,
        }

    def _box(self, found: FramePoses, row: int, keypoints: Sequence[float]) -> list[float]:
        if not self._from_detector:
            return box_around_joints(keypoints)
        left, top, right, bottom = found.boxes_xyxy[row].tolist()
        return [left, top, right - left, bottom - top]

    def _file_name(self, found: FramePoses) -> str:
        """Return the name of the frame's image, which is written unless it is a file."""
        if self._frames is None:
            return found.frame.file_name
        name = f"{found.frame.index:06}.jpg"
        bgr = cv2.cvtColor(found.frame.image, cv2.COLOR_RGB2BGR)
        done, content = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        assert done
        write_atomically(self._frames / name, content.tobytes())
        return name

    def _tail(self, num_frames: int) -> str:
        category = {
            "id": PERSON_CATEGORY,
            "name": "person",
            "keypoints": list(self._skeleton.joints),
            "skeleton": [[first + 1, second + 1] for first, second in self._skeleton.limbs],
        }
        images = ",\n".join(self._images[: self._num_images_after[num_frames]])
        return f'\n],\n"images": [\n{images}\n],\n"categories": [{json.dumps(category)}]}}\n'


def check_precision(precision: float) -> None:
    """Raise UserError unless this is a share above 0, up to 1."""
    if not 0 < precision <= 1:
        raise UserError("--precision", "a number above 0, up to 1", f"{precision:g}")
