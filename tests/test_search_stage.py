"""The search of an experiment: its searchers, several objectives, the picture, its settings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from errors_fixture import refused
from experiment_fixture import EXPERIMENT, draw_people, write_experiment
from model_fixture import save_supernet

from vipnas.arch.image import Arch
from vipnas.cli.main import main
from vipnas.config.search import SearchConfig
from vipnas.files import parse
from vipnas.latency import predictors as predict
from vipnas.latency.interleaved import Latency
from vipnas.latency.predictors import Comparison
from vipnas.models.counting import count_cost
from vipnas.pipeline import search as search_stage
from vipnas.pipeline.search import best_of, front_volumes, run_methods, searchers_of, write_fronts
from vipnas.quantities import Cost, Objective
from vipnas.search import constraints
from vipnas.search.journal import Journal
from vipnas.search.table import searcher_settings
from vipnas.search.trial import Trial
from vipnas.search.workers import InProcess
from vipnas.shipped import find_shipped
from vipnas.space.image import SearchSpace
from vipnas.space.yaml import read_space
from vipnas.viz.fronts import draw_front

SEARCHED = {**EXPERIMENT["search"], "num_trials": 5}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with `data` and a `run` whose supernet has not learnt anything yet."""
    directory = tmp_path_factory.mktemp("search")
    draw_people(directory / "data")
    space = read_space(find_shipped("search_spaces", "tiny"))
    save_supernet(directory / "run" / "supernet" / "supernet.safetensors", space)
    return directory


def arguments(directory: Path, command: str, *more: str) -> list[str]:
    places = ["--output", str(directory / "run"), "--data-root", str(directory / "data")]
    return [command, str(directory / "experiment.yaml"), *places, "--device", "cpu", *more]


def trials_of(directory: Path) -> list[Trial]:
    lines = (directory / "run" / "search" / "trials.jsonl").read_text().splitlines()[1:]
    return [parse(Trial, json.loads(line), "a line") for line in lines]


@pytest.mark.parametrize("searcher", ["nsga2", "predictor"])
def test_a_front_of_several_objectives_beside_random_search(
    trained: Path, searcher: str, capsys: pytest.CaptureFixture[str]
) -> None:
    search = {
        "searcher": searcher,
        "objectives": ["score", "params"],
        "nsga2": {"population_size": 4},
    }
    write_experiment(trained, {**EXPERIMENT, "search": {**SEARCHED, **search}})
    stage = trained / "run" / "search"
    for file in stage.glob("*"):
        file.unlink()
    assert main(arguments(trained, "search")) == 0
    counts = {method: 0 for method in (searcher, "random", "reference")}
    for trial in trials_of(trained):
        counts[trial.method] += 1
    assert counts == {searcher: 5, "random": 5, "reference": 2}
    front = json.loads((stage / "pareto.json").read_text())
    params = [entry["cost"]["params"] for entry in front]
    scores = [entry["score"] for entry in front]
    assert params == sorted(params) and scores == sorted(scores)
    assert (stage / "pareto.png").read_bytes().startswith(b"\x89PNG")
    assert not list(stage.glob("*.partial"))
    assert "ended_early" not in json.loads((stage / "best.json").read_text())["found"]
    volumes = f"search: hypervolume of the fronts of score/params: {searcher} "
    assert volumes in capsys.readouterr().out


def test_volumes_of_fronts_by_hand(tiny_space: SearchSpace) -> None:
    """In the box from (0.2, 100) to (0.6, 200): of `one` (0.6, 150) has half; of `other` (0.2, 100)
    and (0.4, 200) lie on the edge, (0.4, 150) has a quarter; failures have nothing."""

    def found(score: float | None, macs: int) -> Trial:
        return Trial(0, "one", tiny_space.min_arch(), score, Cost(macs, 1), 0.0, failure="")

    searched = {
        "one": [found(0.6, 150), found(None, 1)],
        "other": [found(0.2, 100), found(0.4, 200), found(0.4, 150)],
        "none": [found(None, 100)],
    }
    assert front_volumes(searched, ("score", "macs")) == pytest.approx(
        {"one": 0.5, "other": 0.25, "none": 0.0}
    )


@pytest.mark.parametrize(("objectives", "lines"), [(("score", "macs"), 1), (("score",), 0)])
def test_only_a_front_has_a_hypervolume(
    objectives: tuple[Objective, ...],
    lines: int,
    tiny_space: SearchSpace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(search_stage, "draw_front", lambda *_: None)
    trial = Trial(0, "one", tiny_space.min_arch(), 0.5, Cost(100, 1), 0.0)
    config = SearchConfig(1, searcher="predictor", objectives=objectives)
    trials = {"predictor": [trial], "random": [trial], "reference": [trial, trial]}
    write_fronts(tmp_path, config, trials)
    assert capsys.readouterr().out.count("hypervolume") == lines
    assert len(json.loads((tmp_path / "pareto.json").read_text())) == 1


class MadeUpPredictor:
    """A millisecond for a million multiply-adds; whatever is measured takes 7 of them."""

    fingerprint = "made up"

    def __call__(self, arch: Arch) -> float:
        return count_cost(arch).macs / 1e6

    def compare(self, arch: Arch) -> Comparison:
        return Comparison(self(arch), Latency(7.0, 0.01, 36))


def test_the_winner_is_measured_before_it_is_written(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(predict, "open_predictor", lambda *_: MadeUpPredictor())
    limit = {"quantity": "latency_ms", "at_most": 6.0}
    search = {**SEARCHED, "constraints": [limit], "latency": {"table": "made_up.json"}}
    write_experiment(trained, {**EXPERIMENT, "search": search})
    stage = trained / "run" / "search"
    for file in stage.glob("*"):
        file.unlink()
    assert main(arguments(trained, "search")) == 0
    best = json.loads((stage / "best.json").read_text())
    assert best["found"]["latency"]["measured"]["median_ms"] == 7.0
    predicted_ms = best["found"]["latency"]["predicted_ms"]
    assert predicted_ms == pytest.approx(best["found"]["cost"]["latency_ms"], abs=1e-4)
    printed = capsys.readouterr().out
    assert f"best.json: predicted {predicted_ms:.2f} ms, measured 7.00 ms" in printed
    assert "; outside of the budget: latency_ms 0.000 to 6.000" in printed


def test_a_search_that_ends_early_says_so_last_and_in_its_files(
    trained: Path,
    tiny_space: SearchSpace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(constraints, "LISTABLE", 0)  # counting all takes seconds
    most = count_cost(tiny_space.with_facts(num_keypoints=17).max_arch()).macs
    limit = {"quantity": "macs", "at_least": most, "at_most": most}
    write_experiment(trained, {**EXPERIMENT, "search": {**SEARCHED, "constraints": [limit]}})
    stage = trained / "run" / "search"
    for file in stage.glob("*"):
        file.unlink()
    assert main(arguments(trained, "search")) == 0
    why = "ended early: 1 of 5 trials, no other architecture within the budgets was found"
    last = capsys.readouterr().out.splitlines()[-2:]
    assert last == [f"search: evolution {why}", f"search: random {why}"]
    for name in ("best.json", "random_best.json"):
        assert json.loads((stage / name).read_text())["found"]["ended_early"] == why


@pytest.mark.slow
@pytest.mark.timeout(300)
class Counted:
    """Give every architecture the same score, and count the calls."""

    calls = 0

    def __call__(self, arch: Arch) -> float:
        self.calls += 1
        return 0.5

    def above(self, arch: Arch, floor: float) -> tuple[float, bool]:
        return self(arch), False


def test_random_search_takes_over_scores_that_may_stop_early(
    tiny_space: SearchSpace, tmp_path: Path
) -> None:
    config = parse(SearchConfig, {"num_trials": 6}, "search")
    searchers = searchers_of(config, tiny_space, 0, count_cost)
    evaluate, journal = Counted(), Journal(tmp_path / "trials.jsonl", {})
    trials = run_methods(
        config,
        searchers,
        InProcess(lambda: evaluate),
        count_cost,
        journal,
        lambda method, best, **found: None,
        stop_early=True,
    )
    # Both begin with the same sample.
    assert [one.arch for one in trials["random"]] == [one.arch for one in trials["evolution"]]
    assert evaluate.calls == 6 + 2  # and the reference architectures


def test_a_search_without_trials_is_one_line() -> None:
    with refused("search", "evaluations that succeed", "0"):
        best_of([])


def test_two_workers_make_the_trials_of_one_process(trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    write_experiment(trained, {**EXPERIMENT, "search": SEARCHED})
    stage = trained / "run" / "search"
    found = []
    for more in ((), ("--workers", "2")):
        for file in stage.glob("*"):
            file.unlink()
        assert main(arguments(trained, "search", *more)) == 0
        trials = sorted(trials_of(trained), key=lambda trial: (trial.method, trial.number))
        found.append([(trial.method, trial.number, trial.arch, trial.score) for trial in trials])
    assert found[0] == found[1]


@pytest.mark.slow
def test_searches_killed_at_random_moments_end_with_the_same_trials() -> None:
    """A command without Ray, a command with, a worker."""
    pytest.importorskip("ray")
    tool = ("-m", "tools.benchmarks.kill_search")
    done = subprocess.run(
        [sys.executable, *tool, "--kills", "3", "--seed", "2"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("all the same") == 3


def test_workers_options_need_workers(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_experiment(trained, EXPERIMENT)
    assert main(arguments(trained, "search", "--gpus-per-worker", "0.5")) == 1
    assert "--gpus-per-worker: expected --workers with this option" in capsys.readouterr().err
    assert main(arguments(trained, "search", "--workers", "0")) == 1
    assert "workers: expected at least 1 worker" in capsys.readouterr().err


def test_an_unknown_searcher_is_named_when_the_experiment_is_opened() -> None:
    config = parse(SearchConfig, {"num_trials": 3, "searcher": "evolutoin"}, "experiment.yaml")
    with pytest.raises(ValueError, match=r"search.searcher: .* got 'evolutoin' \(did you mean"):
        searcher_settings(config, "search")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"objectives": ["macs"]}, "objectives: expected score and"),
        (
            {"objectives": ["score", "latency_ms"]},
            "latency: expected a mapping, got none .latency_ms is a constraint or an",
        ),
        (
            {"constraints": [{"quantity": "latency_ms", "at_most": 5}]},
            "latency: expected a mapping, got none .latency_ms is a constraint or an",
        ),
        ({"pending": 0}, "pending: expected a number greater than 0, got 0"),
    ],
)
def test_wrong_settings_are_named(section: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(SearchConfig, {"num_trials": 3, **section}, "experiment.yaml")


def test_the_picture_has_a_panel_for_each_cost_and_leaves_failures_out(
    tiny_space: SearchSpace, tmp_path: Path
) -> None:
    arch, path = tiny_space.max_arch(), tmp_path / "pareto.png"
    good = Trial(0, "nsga2", arch, 0.5, count_cost(arch), 1.0)
    failed = Trial(1, "nsga2", arch, None, count_cost(arch), 1.0, failure="MemoryError: no room")
    widths, ends = [], {"largest": good, "smallest": failed}
    for objectives in (("score",), ("score", "macs"), ("score", "macs", "params")):
        draw_front(path, {"nsga2": [good, failed], "random": [failed]}, ends, objectives)
        widths.append(int.from_bytes(path.read_bytes()[16:20], "big"))
    assert widths[0] == widths[1] and widths[2] == 2 * widths[1]
