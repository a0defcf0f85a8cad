"""Results with tracks, made from labels."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SHIFTS_PX = (0, 0, 5, 40)


def truth_with_tracks(videos: Path) -> str:
    """Return labelled people as results: some missing, some off by a few pixels."""
    rng = random.Random(0)
    people = (
        person
        for file in sorted(videos.iterdir())
        for person in json.loads(file.read_text())["annotations"]
    )
    return json.dumps([_result(person, rng) for person in people if rng.random() < 0.8])


def _result(person: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    return {
        "image_id": person["image_id"],
        "category_id": 1,
        "keypoints": [*_shifted(person["keypoints"], rng.choice(SHIFTS_PX))],
        "score": round(rng.random(), 3),
        "track_id": person["track_id"],
    }


def _shifted(keypoints: list[float], shift_px: float) -> Iterator[float]:
    for start in range(0, len(keypoints), 3):
        x, y, visibility = keypoints[start : start + 3]
        yield from (x + shift_px, y, 0.9) if visibility else (0, 0, 0)
