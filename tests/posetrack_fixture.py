"""Videos with the annotations of the official PoseTrack files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vipnas.data.formats.posetrack import PoseTrackData, read_posetrack
from vipnas.data.formats.reading import Reading
from vipnas.data.formats.skeletons import read_skeleton

POSETRACK_18 = read_skeleton("posetrack_18")
CATEGORY = {"id": 1, "name": "person", "keypoints": list(POSETRACK_18.joints)}


def keypoints(x: float, y: float) -> list[float]:
    values = np.zeros((17, 3))
    values[5:, 0], values[5:, 1], values[5:, 2] = x + np.arange(12), y + 2 * np.arange(12), 1
    return values.ravel().tolist()


class Tree:
    """Two videos as the official files give them: no sizes, unlabelled frames, ignore regions."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.annotations = root / "annotations" / "val"
        self.documents = {name: self._document(name) for name in ("000342_mpii_test", "000522")}

    def _document(self, name: str) -> dict[str, Any]:
        folder = self.root / "images" / "val" / name
        folder.mkdir(parents=True)
        first_id = 10_000 * (1 + len(list(self.root.glob("images/val/*"))))
        images, annotations = [], []
        picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
        for number in range(3):
            cv2.imwrite(str(folder / f"{number:06}.jpg"), picture)
            image_id = first_id + number
            image = {
                "file_name": f"images/val/{name}/{number:06}.jpg",
                "id": image_id,
                "frame_id": image_id,
                "vid_id": name[:6],
                "nframes": 3,
                "is_labeled": number != 2,
            }
            if number == 1:
                image |= {"ignore_regions_x": [[1, 9, 5]], "ignore_regions_y": [[2, 3, 8]]}
            images.append(image)
        for number, track_id in ((0, 0), (0, 4), (1, 4)):
            annotations.append(
                {
                    "id": 100 * (first_id + number) + track_id,
                    "image_id": first_id + number,
                    "track_id": track_id,
                    "category_id": 1,
                    "bbox": [10 + track_id, 12, 20, 30],
                    "bbox_head": [11 + track_id, 13, 6, 8],
                    "keypoints": keypoints(15 + track_id, 20),
                    "scores": [],
                }
            )
        images.reverse()  # the order is that of the file names
        return {"categories": [CATEGORY], "images": images, "annotations": annotations}

    def read(self, skip_bad_images: bool = False) -> PoseTrackData:
        self.annotations.mkdir(parents=True, exist_ok=True)
        for name, document in self.documents.items():
            (self.annotations / f"{name}.json").write_text(json.dumps(document))
        return read_posetrack(self.annotations, self.root, POSETRACK_18, Reading(skip_bad_images))
