"""The whole chain, small; run again it does nothing; killed it ends the same."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
from experiment_fixture import EXPERIMENT, draw_people, files_below, write_experiment
from model_fixture import load_network
from tool_fixture import tool

from vipnas.arch.io import read_arch
from vipnas.cli.main import main
from vipnas.data.formats.skeletons import COCO_17
from vipnas.models.counting import count_cost
from vipnas.models.file import read_header
from vipnas.pipeline.image_level import read_metrics
from vipnas.shipped import find_shipped
from vipnas.space.yaml import read_space

pytestmark = pytest.mark.usefixtures("brief_plan")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with `data`, `experiment.yaml` and the finished `run`."""
    directory = tmp_path_factory.mktemp("chain")
    draw_people(directory / "data")
    write_experiment(directory, EXPERIMENT)
    assert main(arguments("run", directory)) == 0
    return directory


def arguments(command: str, directory: Path, *more: str) -> list[str]:
    output, data = str(directory / "run"), str(directory / "data")
    experiment = str(directory / "experiment.yaml")
    places = ["--output", output, "--data-root", data, "--device", "cpu"]
    return [command, experiment, *places, *more]


def test_it_leaves_all_its_artefacts(finished: Path) -> None:
    run = finished / "run"
    space = read_space(find_shipped("search_spaces", "tiny"))
    assert load_network(run / "supernet" / "supernet.safetensors").arch == space.max_arch()
    best = read_arch(run / "search" / "best.json")
    assert best in space and count_cost(best).macs <= 6_000_000
    assert load_network(run / "retrain" / "network.safetensors").arch == best
    for name, kind, calibrated in (
        ("supernet/supernet", "supernet", False),
        ("supernet/best", "supernet", False),
        ("retrain/network", "image", True),
        ("retrain/best", "image", False),
    ):
        header = read_header(run / f"{name}.safetensors")
        assert (header.kind, header.batch_norm.calibrated) == (kind, calibrated)
        assert header.provenance.experiment == "experiment" and header.skeleton == COCO_17
        assert str(finished) not in header.to_json()
        if kind == "supernet":
            assert header.search_space(name) == space
    trials = [
        json.loads(line) for line in (run / "search" / "trials.jsonl").read_text().split("\n")[1:-1]
    ]
    assert [(trial["method"], trial["number"]) for trial in trials[:6]] == [
        (method, number) for method in ("evolution", "random") for number in range(3)
    ]
    scores = [trial["score"] for trial in trials[:3]]
    found = json.loads((run / "search" / "best.json").read_text())["found"]
    assert found["score"] == max(scores)
    front = json.loads((run / "search" / "pareto.json").read_text())
    assert front[-1]["score"] == max(scores)
    summary = json.loads((run / "summary.json").read_text())
    assert [row["network"] for row in summary["test"]][-1] == "evolution's best, retrained"
    assert summary["seconds"].keys() >= {"supernet", "search", "retrain"}
    assert not list(run.rglob("*.partial"))
    for stage in ("supernet", "retrain"):  # a kill between the two would leave a stage without one
        times = [(run / stage / name).stat().st_mtime_ns for name in ("seconds.json", "done.json")]
        assert times == sorted(times)
    for name in ("crops", "predictions_val", "ap_by_joint"):
        for stage in ("supernet", "retrain"):
            assert (run / stage / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_run_again_it_trains_and_scores_nothing(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("trained or scored again")

    monkeypatch.setattr("vipnas.training.loop.Training.run", never)
    monkeypatch.setattr("vipnas.pipeline.scorer.in_worker", never)
    before = files_below(finished / "run")
    assert main(arguments("run", finished)) == 0
    after = files_below(finished / "run")
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert {Path(name).name for name in changed} <= {"seconds.json", "summary.json", "report.html"}


def test_evaluate_repeats_the_figures_of_retrain(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = str(finished / "run" / "retrain" / "network.safetensors")
    assert main(arguments("evaluate", finished, network, "--json")) == 0
    printed = json.loads(capsys.readouterr().out)
    saved = read_metrics(finished / "run" / "retrain" / "metrics.json")
    assert printed["coco"] == asdict(saved)
    assert printed.keys() == {"coco", "pck"}


def test_written_results_score_as_the_network_does(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, results = (
        str(finished / "run" / "retrain" / "network.safetensors"),
        str(tmp_path / "found.json"),
    )
    assert main(arguments("evaluate", finished, network, "--results", results)) == 0
    of_network = capsys.readouterr().out
    assert main(arguments("evaluate", finished, "--from-results", results)) == 0
    assert capsys.readouterr().out == of_network != ""
    assert main(arguments("evaluate", finished, "--from-results", results, "--results", "x")) == 1
    assert "--results: expected a model with this option" in capsys.readouterr().err


def test_metrics_of_another_codec_are_measured_anew(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    write_experiment(copy, {**EXPERIMENT, "codec": "dark", "flip_test": False})
    arch = str(copy / "run" / "search" / "best.json")
    for measured in (True, False):
        assert main(arguments("retrain", copy, "--arch", arch)) == 0
        assert ("on the test set" in capsys.readouterr().out) == measured
    settings = [
        json.loads((folder / "run" / "retrain" / "metrics.json").read_text())["settings"]
        for folder in (finished, copy)
    ]
    assert [(found["codec"], found["flip_test"]) for found in settings] == [
        ("quarter", True),
        ("dark", False),
    ]


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_where_the_unbroken_run_does(tmp_path: Path) -> None:
    kills = tool("benchmarks.kill_test").kill_test(tmp_path, kills=1, seed=1)
    assert [kill.command for kill in kills] == ["train-supernet", "search", "retrain"]
    assert [kill.differences for kill in kills] == [[], [], []]
