"""Keypoint results in COCO results JSON: written whole or not at all, and read back."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vipnas.data.skeletons import Skeleton
from vipnas.files import read_json, write_atomically

KEYS = ("image_id", "category_id", "keypoints", "score")


def write_results(path: Path, results: Sequence[dict[str, Any]]) -> None:
    """What the COCO server and every evaluator of the field takes; numbers are not rounded."""
    write_atomically(path, json.dumps(list(results), allow_nan=False) + "\n")


def read_results(path: Path, skeleton: Skeleton) -> list[dict[str, Any]]:
    """Raises ValueError, one line: the file, the place, what was found, what is allowed."""
    raw = read_json(path)
    if not isinstance(raw, list):
        raise ValueError(f"{path}: found a {type(raw).__name__}; allowed: a list of results")
    for number, entry in enumerate(raw):
        place = f"{path}: result {number}"
        if not isinstance(entry, dict) or (missing := [key for key in KEYS if key not in entry]):
            what = f"{missing[0]} is missing" if isinstance(entry, dict) else f"found {entry!r}"
            raise ValueError(f"{place}: {what}; allowed: objects with {', '.join(KEYS)}")
        numbers = [*entry["keypoints"], entry["score"]]
        if len(numbers) != 3 * skeleton.num_joints + 1:
            raise ValueError(
                f"{place}: {len(numbers) - 1} keypoint numbers; allowed: {3 * skeleton.num_joints} "
                f"for {skeleton.name}"
            )
        if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in numbers):
            raise ValueError(f"{place}: holds something that is not a finite number")
    return raw
