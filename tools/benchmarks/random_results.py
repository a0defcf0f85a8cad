"""Ground truth that is drawn at random, and results on it, for timing of the evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vipnas.data.formats.coco import PERSON_CATEGORY, PoseData
from vipnas.data.formats.posetrack import Frame, TrackedPerson


def random_coco(
    num_images: int, num_persons: int, num_results: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Ground truth, and results that are people found more or less well, and made-up ones."""
    rng = np.random.default_rng(0)
    owners = np.sort(rng.integers(0, num_images, num_persons)).tolist()
    annotations = [random_annotation(rng, n + 1, image_id) for n, image_id in enumerate(owners)]
    by_image: dict[int, list[dict[str, Any]]] = {}
    for annotation in annotations:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    results = []
    for image_id in range(num_images):
        people = by_image.get(image_id, [])
        for rank in range(num_results // num_images):
            person = people[rank] if rank < len(people) else None
            results.append(random_result(rng, image_id, person))
    truth = {
        "images": [{"id": number, "width": 640, "height": 480} for number in range(num_images)],
        "annotations": annotations,
        "categories": [{"id": PERSON_CATEGORY, "name": "person"}],
    }
    return truth, results


def random_annotation(rng: np.random.Generator, number: int, image_id: int) -> dict[str, Any]:
    width, height = rng.uniform(20, 200), rng.uniform(40, 400)
    x, y = rng.uniform(0, 400, 2)
    keypoints = np.zeros((17, 3))
    keypoints[:, :2] = rng.uniform((x, y), (x + width, y + height), (17, 2))
    keypoints[:, 2] = rng.choice([0, 1, 2], 17, p=[0.3, 0.1, 0.6])
    keypoints[keypoints[:, 2] == 0] = 0
    return {
        "id": number,
        "image_id": image_id,
        "category_id": PERSON_CATEGORY,
        "iscrowd": int(rng.uniform() < 0.02),
        "bbox": [x, y, width, height],
        "area": float(0.5 * width * height),
        "keypoints": keypoints.ravel().tolist(),
        "num_keypoints": int((keypoints[:, 2] > 0).sum()),
    }


def random_result(
    rng: np.random.Generator, image_id: int, person: dict[str, Any] | None
) -> dict[str, Any]:
    """The person more or less well found, or one that is not there."""
    keypoints = np.ones((17, 3))
    if person is None:
        keypoints[:, :2] = rng.uniform(0, 600, (17, 2))
    else:
        truth_K2 = np.array(person["keypoints"]).reshape(17, 3)[:, :2]
        keypoints[:, :2] = truth_K2 + rng.normal(0, rng.choice([2.0, 8.0, 20.0]), (17, 2))
    return {
        "image_id": image_id,
        "category_id": PERSON_CATEGORY,
        "keypoints": keypoints.ravel().tolist(),
        "score": float(rng.uniform(0.0 if person is None else 0.3, 1.0)),
    }


def random_posetrack(num_frames: int, num_people: int) -> tuple[list[Frame], list[dict[str, Any]]]:
    """Frames of one video, and its people found with an error."""
    rng = np.random.default_rng(0)
    frames, results = [], []
    for number in range(num_frames):
        people = [random_tracked(rng, number, track_id) for track_id in range(num_people)]
        for person in people:
            found = person.keypoints_K3.astype(float)
            found[:, :2] += rng.normal(0, 12, (17, 2))
            found[:, 2] = rng.uniform(0.1, 1, 17)
            results.append({"image_id": number, "keypoints": found.ravel().tolist(), "score": 1.0})
        frames.append(Frame(number, number, Path("x.jpg"), (900, 900), True, tuple(people)))
    return frames, results


def random_tracked(rng: np.random.Generator, number: int, track_id: int) -> TrackedPerson:
    keypoints = np.full((17, 3), 2.0, np.float32)
    keypoints[:, :2] = rng.uniform(0, 800, 2) + rng.normal(0, 50, (17, 2))
    return TrackedPerson(
        number,
        number,
        Path("x.jpg"),
        (0, 0, 9, 9),
        9.0,
        keypoints,
        track_id=track_id,
        head_box_xywh=(*rng.uniform(0, 800, 2), 30.0, 40.0),
    )


def truth_as_results(data: PoseData) -> list[dict[str, Any]]:
    return [
        {
            "image_id": entry["image_id"],
            "category_id": PERSON_CATEGORY,
            "keypoints": entry["keypoints"],
            "score": 1.0,
        }
        for entry in data.ground_truth["annotations"]
        if entry["num_keypoints"] and not entry["iscrowd"]
    ]
