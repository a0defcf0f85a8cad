"""AP by joint as a picture: a bar for each joint of each network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vipnas.viz import joints


def test_bars_are_the_aps_by_joint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(joints, "write_figure", lambda path, figure: drawn.append(figure))
    aps = {"largest": {"nose": 0.5, "left_knee": 0.25}, "smallest": {"nose": -1.0, "hip": 1.0}}
    joints.draw_ap_by_joint(tmp_path / "joints.png", aps, "validation")
    (axis,) = drawn[0].axes
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels == ["nose", "left knee", "hip"]
    widths = [bar.get_width() for bar in axis.patches]
    assert widths == [0.5, 0.25, 0.0, 0.0, 0.0, 1.0]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["largest", "smallest"]
    assert "validation split" in axis.get_xlabel()
