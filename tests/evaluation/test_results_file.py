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
        ({}, "found a dict; allowed: a list of results"),
        ([3], "result 0: found 3; allowed: objects with image_id"),
        ([RESULT, {"image_id": 1}], "result 1: category_id is missing"),
        ([{**RESULT, "keypoints": [0.0] * 42}], "result 0: 42 keypoint numbers; allowed: 51"),
        ([{**RESULT, "score": math.nan}], "result 0: holds something that is not a finite"),
    ],
)
def test_wrong_files_are_named_in_one_line(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as caught:
        read_results(path, COCO_17)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
