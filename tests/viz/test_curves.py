"""Training curves: what is drawn of `metrics.jsonl`."""

from __future__ import annotations

import json
from pathlib import Path

from vipnas.data.crops.images import read_image
from vipnas.viz import curves
from vipnas.viz.curves import draw_curves, reads_better_logarithmic

LINES: list[dict[str, float | None]] = [
    {"step": 20, "loss/random": 0.5, "loss/largest": None, "memory_mib": 5.0},
    {"step": 40, "loss/random": 0.25, "loss/largest": 0.1, "ap/largest": 0.1},
    {"step": 60, "loss/random": None, "loss/largest": 0.1, "ap/largest": 0.2},
]


def image_hw(path: Path) -> tuple[int, int]:
    height, width = read_image(path).shape[:2]
    return height, width


def test_each_kind_has_a_panel_and_null_is_left_out(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    assert dict(curves._series(LINES, "loss")) == {
        "random": ([20.0, 40.0], [0.5, 0.25]),
        "largest": ([40.0, 60.0], [0.1, 0.1]),
    }
    assert draw_curves(tmp_path / "two.png", metrics)
    metrics.write_text("".join(json.dumps(line) + "\n" for line in LINES[:2]))
    assert draw_curves(tmp_path / "one.png", metrics)
    two, one = (image_hw(tmp_path / name) for name in ("two.png", "one.png"))
    assert two == (one[0], 2 * one[1])


def test_one_point_is_no_curve(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(json.dumps(LINES[0]) + "\n")
    assert not draw_curves(tmp_path / "none.png", tmp_path / "metrics.jsonl")
    assert not (tmp_path / "none.png").exists()


def test_only_losses_of_a_wide_range_are_logarithmic() -> None:
    assert reads_better_logarithmic([0.5, 0.1, 0.02])
    assert not reads_better_logarithmic([0.5, 0.1, 0.025])  # a ratio of 20
    assert not reads_better_logarithmic([0.5, 0.0])
