"""Files of a run that somebody changed are named before the page is drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from errors_fixture import refused

from vipnas.pipeline.report import report
from vipnas.report.documents import Details, Front, Metrics, Summary, read_curves, read_document


@pytest.mark.parametrize(
    "kind, document, place, expected",
    [
        (Metrics, {"coco": "x"}, "coco", "object"),
        (Metrics, {"ap": "0.5"}, "ap", "number"),
        (Metrics, {"posetrack": {"mean": [1]}}, "posetrack.mean", "number"),
        (Metrics, {"coco": {"ap": float("nan")}}, "coco.ap", "finite"),
        (Details, {"ap_interval": [0.5]}, "ap_interval[1]", ""),
        (Details, {"precision": {"0.50": [{}]}}, "precision.0.50[0]", "number"),
        (Summary, {"test": {}}, "test", "array"),
        (Summary, {"along_clip": [{"frame": 0}]}, "along_clip[0].fusion", ""),
        (Front, {"rows": [{"score": "1", "retrained": None}]}, "rows[0].score", "number"),
    ],
)
def test_what_is_no_such_document_is_named(
    tmp_path: Path, kind: type[Any], document: Any, place: str, expected: str
) -> None:
    path = tmp_path / "document.json"
    path.write_text(json.dumps(document))
    with refused(f"{path}: {place}", expected):
        read_document(kind, path)


def test_more_keys_are_kept_and_no_file_is_no_document(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    assert read_document(Metrics, path) is None
    path.write_text('{"ap": 0.5, "settings": {"seed": 1}}')
    assert read_document(Metrics, path) == {"ap": 0.5, "settings": {"seed": 1}}


@pytest.mark.parametrize(
    "line, place",
    [
        ('{"loss": 1}', ": step"),
        ('{"step": null}', ": step"),
        ('{"step": 1, "loss": "x"}', ": loss"),
        ("[1]", ""),
        ("{", ""),
    ],
)
def test_a_line_of_a_curve_is_named(tmp_path: Path, line: str, place: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": Infinity}\n')
    assert read_curves(path) == [{"step": 1, "loss": None}]
    path.write_text(f'{{"step": 1}}\n{line}\n{{"torn')
    with refused(f"{path}: line 2{place}"):
        read_curves(path)
    path.write_bytes(b'{"step": 1}\n\xff\n')
    with refused(str(path), "UTF-8 text"):
        read_curves(path)


def test_metrics_of_another_model_are_named(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text('{"coco": true}')
    with refused(f"{path}: coco", "object", "True"):
        report([], other_metrics=[path])
