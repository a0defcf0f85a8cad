"""A front retrained: each arch as if alone, side by side or not; again it does nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from experiment_fixture import EXPERIMENT, draw_people, write_experiment
from model_fixture import load_network
from search_fixture import trial

from vipnas.arch.io import read_arch
from vipnas.cli.main import main
from vipnas.files import to_plain
from vipnas.pipeline.front import Reporter
from vipnas.shipped import find_shipped
from vipnas.space.yaml import read_space

pytestmark = pytest.mark.usefixtures("brief_plan")

NO_OUTCOME: Any = None
EPOCHS = {"epochs": 2, "batch_size": 4, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with `data`, `experiment.yaml`, and a `pareto.json` of two archs."""
    directory = tmp_path_factory.mktemp("front")
    draw_people(directory / "data")
    write_experiment(directory, {**EXPERIMENT, "search": None, "retrain": {"schedule": EPOCHS}})
    space = read_space(find_shipped("search_spaces", "tiny"))
    trials = [trial(3, space.min_arch(), 0.25), trial(1, space.max_arch())]
    (directory / "pareto.json").write_text(json.dumps([to_plain(found) for found in trials]))
    return directory


def arguments(directory: Path, command: str, *more: str, run: str = "run") -> list[str]:
    places = ["--output", str(directory / run), "--data-root", str(directory / "data")]
    return [command, str(directory / "experiment.yaml"), *places, "--device", "cpu", *more]


def front(directory: Path, *more: str, run: str) -> int:
    file = str(directory / "pareto.json")
    return main(arguments(directory, "retrain", "--front", file, *more, run=run))


def test_each_arch_is_trained_as_if_alone(
    searched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert front(searched, run="alone") == 0
    table = capsys.readouterr().out.splitlines()[-2:]
    rows = json.loads((searched / "alone" / "retrain" / "front.json").read_text())["rows"]
    trials = json.loads((searched / "pareto.json").read_text())
    for number, found in enumerate(trials):
        folder = searched / "alone" / "retrain" / f"front_{number}"
        assert to_plain(read_arch(folder / "arch.json")) == found["arch"]
        metrics = json.loads((folder / "metrics.json").read_text())
        assert rows[number]["retrained"].keys() == metrics.keys() - {"settings", "threads"}
        assert table[number].split()[0] == folder.name
        assert table[number].split()[-1] == f"{metrics['ap']:.3f}"
    single = arguments(searched, "retrain", "--arch", str(folder / "arch.json"))
    assert main(single) == 0
    trained, alone = (
        load_network(path / "network.safetensors").state_dict()
        for path in (folder, searched / "run" / "retrain")
    )
    assert all(trained[name].equal(tensor) for name, tensor in alone.items())
    capsys.readouterr()
    before = (folder / "network.safetensors").stat().st_mtime_ns
    assert front(searched, run="alone") == 0
    assert "done already" in capsys.readouterr().out
    assert (folder / "network.safetensors").stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_side_by_side_those_that_are_not_stopped_end_as_alone(
    searched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray")
    assert front(searched, run="one") == 0
    assert front(searched, "--workers", "2", run="both") == 0
    rows = json.loads((searched / "both" / "retrain" / "front.json").read_text())["rows"]
    alone = json.loads((searched / "one" / "retrain" / "front.json").read_text())["rows"]
    finished = [row for row in rows if row["retrained"] is not None]
    assert finished and all(row in alone for row in finished)


def lines_with_rates(log: Path) -> list[str]:
    """Of a `metrics.jsonl`, what a second training would not write again to the last digit."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [line for line in lines if "images_per_second" in line]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_side_by_side_each_goes_on_from_its_checkpoint(
    searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray")
    (tmp_path / "data").symlink_to(searched / "data")
    shutil.copy(searched / "pareto.json", tmp_path)
    retrain = {"schedule": {**EPOCHS, "epochs": 80}}
    write_experiment(tmp_path, {**EXPERIMENT, "search": None, "retrain": retrain})
    assert front(tmp_path, run="one") == 0
    more = ["--front", str(tmp_path / "pareto.json"), "--workers", "2"]
    call = [sys.executable, "-m", "vipnas", *arguments(tmp_path, "retrain", *more, run="both")]
    stage = tmp_path / "both" / "retrain"
    logs = [stage / f"front_{number}" / "metrics.jsonl" for number in range(2)]
    command = subprocess.Popen(call)
    while not all(len(lines_with_rates(log)) > 1 for log in logs):
        assert command.poll() is None
        time.sleep(0.02)
    command.kill()  # only itself: Ray must notice
    command.wait()
    before = [lines_with_rates(log)[0] for log in logs]
    assert not (stage / "front.json").exists()
    assert subprocess.run(call).returncode == 0
    assert [lines_with_rates(log)[0] for log in logs] == before
    rows = json.loads((stage / "front.json").read_text())["rows"]
    alone = json.loads((tmp_path / "one" / "retrain" / "front.json").read_text())["rows"]
    finished = [row for row in rows if row["retrained"] is not None]
    assert finished and all(row in alone for row in finished)


@pytest.mark.parametrize("content", ["[]", "{}", "3", '[{"number": 1}]'])
def test_what_is_no_front_is_refused(
    searched: Path, tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "pareto.json"
    file.write_text(content)
    assert main(arguments(searched, "retrain", "--front", str(file))) == 1
    error = capsys.readouterr().err
    assert str(file) in error and error.count("\n") == 1


def test_workers_without_a_front_are_refused(
    searched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(searched, "retrain", "--workers", "2")) == 1
    assert "--workers: expected --front with this option" in capsys.readouterr().err


def test_each_probe_is_reported_once_also_after_a_kill(tmp_path: Path) -> None:
    lines, reports = tmp_path / "metrics.jsonl", list[tuple[float, float]]()
    training: Any = SimpleNamespace(num_steps=10)
    reporter = Reporter(lines, lambda share, score: reports.append((share, score)))
    reporter.after_step(training, NO_OUTCOME)
    content = ""
    for step in range(1, 11):
        content += json.dumps(
            {"step": step, **({"ap/network": step / 100} if step % 5 == 0 else {})}
        )
        content += "\n"
        lines.write_text(content + '{"step": 1')
        reporter.after_step(training, NO_OUTCOME)
    assert reports == [(0.5, 0.05)]
    again = Reporter(lines, lambda share, score: reports.append((share, score)))
    again.after_step(training, NO_OUTCOME)
    assert reports == [(0.5, 0.05)] * 2
