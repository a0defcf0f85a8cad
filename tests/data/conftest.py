"""A small COCO data set on disk, made of noise, for the tests of reading and cropping."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from vipnas.data.formats.skeletons import COCO_17

IMAGE_HW = (60, 80)


@dataclass
class TinyCoco:
    """The document as a dict to spoil, the images on disk, and where `write` puts the file."""

    document: dict[str, Any]
    annotation_file: Path
    image_root: Path

    def write(self) -> Path:
        self.annotation_file.write_text(json.dumps(self.document))
        return self.annotation_file

    def image_path(self, number: int) -> Path:
        return self.image_root / str(self.document["images"][number]["file_name"])


def annotation(number: int, image_id: int, rng: np.random.Generator) -> dict[str, Any]:
    x, y = rng.uniform(2, 20, 2).round(2)
    width, height = rng.uniform(20, 35, 2).round(2)
    keypoints = np.full((17, 3), 2.0)
    keypoints[:, :2] = rng.uniform((x, y), (x + width, y + height), (17, 2)).round(2)
    keypoints[rng.integers(17)] = 0
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [float(x), float(y), float(width), float(height)],
        "area": float(width * height / 2),
        "keypoints": keypoints.ravel().tolist(),
        "num_keypoints": 16,
    }


@pytest.fixture
def tiny_coco(tmp_path: Path) -> TinyCoco:
    """Six images with 1, 2, 3, 1, 2, 3 persons; ids that are neither from 0 nor without gaps."""
    rng = np.random.default_rng(0)
    image_root = tmp_path / "images"
    image_root.mkdir()
    images, annotations = [], []
    for number in range(6):
        image_id = 100 + 7 * number
        name = f"{image_id}.jpg"
        small = rng.integers(0, 256, (6, 8, 3), np.uint8)
        picture = cv2.resize(small, IMAGE_HW[::-1], interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(image_root / name), picture)
        images.append(
            {"id": image_id, "file_name": name, "width": IMAGE_HW[1], "height": IMAGE_HW[0]}
        )
        for _ in range(1 + number % 3):
            annotations.append(annotation(10 + 3 * len(annotations), image_id, rng))
    categories = [{"id": 1, "name": "person", "keypoints": list(COCO_17.joints)}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    return TinyCoco(document, tmp_path / "people.json", image_root)
