from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from vipnas.data.formats.results import read_results, write_results
from vipnas.data.formats.skeletons import COCO_17

RESULT = {"image_id": 3, "category_id": 1, "keypoints": [0.1 + 0.2] * 51, "score": 1 / 3}


def test_results_come_back_to_the_last_digit(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    write_results(path, [RESULT])
    assert read_results(path, COCO_17) == [RESULT]
    assert [file.name for file in path.parent.iterdir()] == ["results.json"]


def test_what_is_not_finite_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(path, [RESULT])
    with pytest.raises(ValueError, match="JSON compliant"):
        write_results(path, [{**RESULT, "score": math.nan}])
    assert read_results(path, COCO_17) == [RESULT]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "expected a list of results in COCO form, got {}"),
        ([3], "result 0: expected an object, got 3"),
        ([RESULT, {"image_id": 1}], "result 1: category_id: expected a whole number, got nothing"),
        ([{**RESULT, "keypoints": [0.0] * 42}], "result 0: keypoints: expected 51 .*, got 42"),
        ([{**RESULT, "keypoints": None}], "result 0: keypoints: expected a list, got null"),
        ([{**RESULT, "keypoints": 7}], "result 0: keypoints: expected a list, got 7"),
        ([{**RESULT, "image_id": "1"}], 'result 0: image_id: expected a whole number, got "1"'),
        ([{**RESULT, "image_id": [1]}], r"result 0: image_id: expected a whole number, got \[1\]"),
        ([{**RESULT, "category_id": [1]}], r"result 0: category_id: expected a .*, got \[1\]"),
        ([{**RESULT, "track_id": "1"}], 'result 0: track_id: expected a whole number, got "1"'),
        ([{**RESULT, "score": math.nan}], "result 0: score: expected a finite number, got NaN"),
        ([{**RESULT, "score": "1"}], 'result 0: score: expected a finite number, got "1"'),
        (
            [{**RESULT, "keypoints": [0.0] * 4 + [None] + [0.0] * 46}],
            r"result 0: keypoints: joint 1 \(left_eye\): y: expected a finite number, got null",
        ),
    ],
)
def test_wrong_files_are_named_in_one_line(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as caught:
        read_results(path, COCO_17)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
