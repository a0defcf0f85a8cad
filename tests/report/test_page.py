"""The page of runs: what it says, from files made by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from report_fixture import NUM_TRIALS, write_run

from vipnas.arch.io import read_arch
from vipnas.cli.main import main
from vipnas.models.counting import count_cost
from vipnas.pipeline.report import levels_of
from vipnas.pipeline.run_folder import RunFolder
from vipnas.quantities import QUANTITIES
from vipnas.report.blocks import Charts, Folded, Table
from vipnas.report.curves import curves
from vipnas.report.page import prose
from vipnas.report.reproduction import reproduction
from vipnas.report.runs import LevelRun
from vipnas.report.searches import _budgets
from vipnas.shipped import find_shipped
from vipnas.space.image import SearchSpace
from vipnas.space.yaml import read_space

LIMITS = {"latency_ms": 12.5, "macs": 5e6}


def charts_of(page: str) -> dict[str, Any]:
    """The charts in a page, by their titles."""
    blocks = re.findall(r'<script type="application/json">(.*?)</script>', page)
    return {chart["title"]: chart for block in blocks for chart in json.loads(block)["charts"]}


def series_of(chart: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Points where there are points: the front has the same name."""
    return {series["name"]: series for series in reversed(chart["series"])}


def test_the_page_of_a_run_says_what_was_found(
    tmp_path: Path, tiny_space: SearchSpace, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "mine", tiny_space)
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"report: {run / 'report.html'}\n"
    page = (run / "report.html").read_text()
    # Nothing is loaded: addresses are anchors of the page itself or data.
    assert set(re.findall(r'(?:src|href)="([^#"]{5})', page)) == {"data:"}
    (level,) = levels_of([RunFolder(run)])
    winner = max(level.searched, key=lambda one: one.fitness)
    assert level.winner == winner
    assert f"<dd>{winner.score:.4f}</dd>" in page and "<dd>0.625</dd>" in page
    assert ">0.250</td>" in page  # the AP of the largest network, of summary.json
    charts = charts_of(page)
    front = series_of(charts["score over MMACs"])
    assert len(front["evolution"]["x"]) == len(front["random"]["x"]) == NUM_TRIALS
    assert charts["score over MMACs"]["marks"] == [{"x": 5.0, "label": "budget 5.00"}]
    best = series_of(charts["best score so far"])["evolution"]["y"]
    assert best == sorted(best) and best[-1] == pytest.approx(winner.score)
    loss = series_of(charts["retrain: loss"])["labels"]
    assert (loss["x"], loss["y"]) == ([10, 20, 30], pytest.approx([1 / 10, 1 / 20, 1 / 30]))
    recall = series_of(charts["precision over recall"])["OKS 0.50"]
    assert (recall["x"], recall["y"]) == ([0, 0.5, 1], [1, 0.5, 0])
    assert "0.500 to 0.700 with 95 % confidence, 40 images" in page
    assert "left knee" in page and page.count("data:image/jpeg") == 1
    assert "0:01:15" in page


def test_a_search_that_ended_early_says_so(tmp_path: Path, tiny_space: SearchSpace) -> None:
    run = write_run(tmp_path / "mine", tiny_space)
    why = "ended early: 4 of 5 trials, no other architecture within the budgets was found"
    (run / "search" / "best.json").write_text(json.dumps({"found": {}}))
    (run / "search" / "random_best.json").write_text(json.dumps({"found": {"ended_early": why}}))
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert page.count("ended early") == 1 and f"mine: random {why}." in page


def test_several_runs_share_a_page_and_a_part_of_a_run_says_what_is_missing(
    tmp_path: Path, tiny_space: SearchSpace
) -> None:
    runs = [write_run(tmp_path / f"seed{seed}", tiny_space, seed) for seed in (0, 1)]
    output = tmp_path / "page.html"
    assert main(["report", *map(str, runs), "-o", str(output)]) == 0
    names = series_of(charts_of(output.read_text())["best score so far"])
    assert sorted(names) == [f"{m}, seed{n}" for m in ("evolution", "random") for n in (0, 1)]
    (tmp_path / "part" / "supernet").mkdir(parents=True)
    assert main(["report", str(tmp_path / "part"), "-o", str(output)]) == 0
    page = output.read_text()
    assert "part has no search yet. <code>vipnas search</code>" in page
    assert charts_of(page) == {}


def test_a_clip_shows_its_compute_and_its_drift(tmp_path: Path, tiny_space: SearchSpace) -> None:
    run = write_run(tmp_path / "mine", tiny_space)
    write_run(run / "video", tiny_space, seed=1)
    drift = [{"distance": n, "oks": 0.5 - n / 10, "error_percent": n} for n in range(3)]
    along = [{"frame": 0, "fusion": "key frame", "macs": 3e6}]
    along += [{"frame": 1, "fusion": "add at 2", "macs": 1e6}]
    (run / "video" / "summary.json").write_text(json.dumps({"along_clip": along, "drift": drift}))
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert page.count("<main") == 2
    assert series_of(charts_of(page)["similarity"])["mine"]["y"] == [0.5, 0.4, 0.3]
    compute = re.findall(r"<span>(frame \d|mean).*?width:([\d.]+)%.*?<em>([\d.]+)</em>", page)
    assert compute == [
        ("frame 0", "100.00", "3.00"),
        ("frame 1", "33.33", "1.00"),
        ("mean", "66.67", "2.00"),
    ]


def test_released_networks_and_other_models_are_listed(tmp_path: Path) -> None:
    space = read_space(find_shipped("search_spaces", "s_vipnas_mbv3", ".yaml"))
    run = write_run(tmp_path / "mine", space, num_trials=2)
    (tmp_path / "hrnet.json").write_text('{"coco": {"ap": 0.757, "ap_large": -1.0}}')
    metrics = ["--metrics", str(tmp_path / "hrnet.json")]
    assert main(["report", str(run), *metrics]) == 0
    page = (run / "report.html").read_text()
    released = "published/s_vipnas_mbv3"
    cost = count_cost(read_arch(find_shipped("search_spaces", released, ".json")))
    assert re.search(rf'row">{released}, released</th><td>{cost.macs / 1e6:.2f}</td>', page)
    assert re.search(r'row">hrnet</th>(<td>–</td>)+<td>0.757</td>', page)
    marks = charts_of(page)["score over MMACs"]["marks"]
    assert {"x": cost.macs / 1e6, "label": released} in marks
    (tmp_path / "other.json").write_text("[]")
    assert main(["report", str(run), "--metrics", str(tmp_path / "other.json")]) == 1


def test_a_folder_without_stages_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tmp_path)]) == 1
    assert f"{tmp_path}: expected the folder of a run" in capsys.readouterr().err


def test_budgets_are_exact_and_a_curve_without_a_number_is_left_out(tmp_path: Path) -> None:
    run = LevelRun("mine", False, tmp_path, tmp_path, tmp_path, tmp_path)
    line = {"step": 1, "loss/labels": None, "learning_rate": 0.5}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    limits = [{"quantity": name, "at_most": most} for name, most in LIMITS.items()]
    limits.append({"quantity": "params", "at_most": float("inf"), "at_least": 1e3})
    run.__dict__["_journal"] = ({"search": {"constraints": limits}}, [])
    table = reproduction([run]).blocks[0]
    assert isinstance(table, Table)
    budgets = "latency_ms at most 12.5, macs at most 5,000,000, params at least 1,000"
    assert ["budgets", budgets] in map(list, table.rows)
    assert [mark.x for mark in _budgets([run], QUANTITIES["params"])] == [0.001]
    section = curves([run])
    assert section is not None
    (more,) = (block for block in section.blocks if isinstance(block, Folded))
    assert isinstance(more.blocks[0], Charts)
    assert {chart.title for chart in more.blocks[0].charts} == {
        "supernet: learning rate",
        "retrain: learning rate",
    }


def test_text_is_escaped() -> None:
    assert prose("a <b> `c<d`") == "a &lt;b&gt; <code>c&lt;d</code>"
