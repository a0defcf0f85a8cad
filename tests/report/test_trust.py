"""How far scores are to be trusted: rank correlations by hand."""

from __future__ import annotations

import json
from pathlib import Path

from report_fixture import write_run

from vipnas.pipeline.report import levels_of
from vipnas.pipeline.run_folder import RunFolder
from vipnas.report.blocks import Charts, Table, Text
from vipnas.report.trust import trust
from vipnas.space.image import SearchSpace


def test_networks_trained_alone_and_other_seeds_are_compared(
    tmp_path: Path, tiny_space: SearchSpace
) -> None:
    runs = [write_run(tmp_path / name, tiny_space) for name in ("one", "two")]
    # Of ten pairs, one is in the other order: tau is (9 - 1) / 10.
    scores = (0.1, 0.2, 0.3, 0.4, 0.5)
    aps = (0.1, 0.2, 0.3, 0.5, 0.4)
    rows = [{"score": s, "retrained": {"ap": ap}} for s, ap in zip(scores, aps, strict=True)]
    stopped = {"score": 0.6, "retrained": None}
    (runs[0] / "retrain" / "front.json").write_text(json.dumps({"rows": [*rows, stopped]}))
    section = trust(levels_of([RunFolder(run) for run in runs]))
    assert section is not None
    texts = [block.text for block in section.blocks if isinstance(block, Text)]
    assert texts == ["one: Kendall's tau 0.80 over 5 networks."]
    charts = [
        c.title for block in section.blocks if isinstance(block, Charts) for c in block.charts
    ]
    assert charts == ["trained alone", "the same architectures in two runs"]
    tables = [block for block in section.blocks if isinstance(block, Table)]
    (row,) = tables[1].rows  # both runs have equal trials
    assert (row[0], row[2:]) == ("one and two", ("Kendall's tau 1.00", "0.0000"))
