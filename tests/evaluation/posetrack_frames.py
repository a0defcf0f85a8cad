"""Random people in frames, for the tests of the PoseTrack measures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vipnas.data.formats.posetrack import Frame, TrackedPerson
from vipnas.data.formats.skeletons import read_skeleton

POSETRACK_18 = read_skeleton("posetrack_18")
EARS = [POSETRACK_18.joints.index(name) for name in ("left_ear", "right_ear")]


def random_person(rng: np.random.Generator, number: int, image_id: int) -> TrackedPerson:
    keypoints = np.full((17, 3), 2.0, np.float32)
    centre = rng.uniform(50, 450, 2)
    keypoints[:, :2] = centre + rng.normal(0, 40, (17, 2))
    keypoints[EARS] = 0
    keypoints[rng.uniform(size=17) < rng.choice([0.0, 0.3, 0.9])] = 0
    side = rng.uniform(10, 60)
    return TrackedPerson(
        annotation_id=100 * image_id + number,
        image_id=image_id,
        image_path=Path("x.jpg"),
        box_xywh=(0, 0, 10, 10),
        area=100.0,
        keypoints_K3=keypoints,
        track_id=number,
        head_box_xywh=(*centre, side, 1.3 * side),
    )


def random_frames(rng: np.random.Generator, num_frames: int, max_people: int) -> tuple[Frame, ...]:
    """Some empty, some with an ignore region."""
    frames = []
    for number in range(num_frames):
        num_people = int(rng.integers(0, max_people + 1))
        people = tuple(random_person(rng, person, 1000 + number) for person in range(num_people))
        regions: tuple[NDArray[np.float64], ...] = ()
        if rng.uniform() < 0.3:
            regions = (rng.uniform(0, 500, (4, 2)),)
        path = Path(f"{number:06}.jpg")
        frames.append(Frame(1000 + number, number, path, (500, 500), True, people, regions))
    return tuple(frames)


def random_results(rng: np.random.Generator, frames: tuple[Frame, ...]) -> list[dict[str, Any]]:
    """People found near and far, missed, doubled, made up; joints missing; equal scores among."""
    results = []
    for frame in frames:
        for person in frame.people:
            for _ in range(rng.choice([0, 1, 1, 1, 2])):
                results.append(found(rng, person.keypoints_K3, frame.image_id, person.track_id))
        for _ in range(rng.integers(0, 2)):
            made_up = random_person(rng, 0, frame.image_id).keypoints_K3
            results.append(found(rng, made_up, frame.image_id, 77))
    return [results[index] for index in rng.permutation(len(results))]


def found(
    rng: np.random.Generator, keypoints_K3: Any, image_id: int, track_id: int
) -> dict[str, Any]:
    keypoints = np.array(keypoints_K3, np.float64)
    keypoints[:, :2] += rng.normal(0, rng.choice([1, 8, 30]), (17, 2))
    keypoints[:, 2] = rng.integers(1, 30, 17) / 30
    keypoints[rng.uniform(size=17) < 0.1] = 0
    return {
        "image_id": image_id,
        "category_id": 1,
        "keypoints": keypoints.ravel().tolist(),
        "score": 1.0,
        "track_id": track_id,
    }


def truth_as_results(frames: tuple[Frame, ...]) -> list[dict[str, Any]]:
    return [
        {
            "image_id": frame.image_id,
            "category_id": 1,
            "keypoints": person.keypoints_K3.astype(np.float64).ravel().tolist(),
            "score": 1.0,
            "track_id": person.track_id,
        }
        for frame in frames
        for person in frame.people
        if person.keypoints_K3[:, 2].any()
    ]
