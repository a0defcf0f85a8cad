"""`vipnas init`: the experiment that it writes is valid, within the budget, and fits the hours."""

from __future__ import annotations

from pathlib import Path

import pytest
from errors_fixture import refused
from experiment_fixture import draw_people

from vipnas.cli.main import main
from vipnas.config.experiment import read_experiment
from vipnas.pipeline import first_experiment
from vipnas.pipeline.budget import Budget, parse_budget
from vipnas.pipeline.first_schedule import fit_schedule
from vipnas.pipeline.image_level import ImageLevel
from vipnas.pipeline.stage_seconds import StageSeconds
from vipnas.pipeline.step_seconds import Effort
from vipnas.shipped import find_shipped
from vipnas.space.yaml import read_space


@pytest.mark.parametrize(
    ("text", "quantity", "at_most"),
    [
        ("25 fps", "latency_ms", 40.0),
        ("40ms", "latency_ms", 40.0),
        ("100 MMACs", "macs", 1e8),
        ("1.5 GMACs", "macs", 1.5e9),
        ("3 Mparams", "params", 3e6),
        ("300kparams", "params", 3e5),
    ],
)
def test_budgets_in_words(text: str, quantity: str, at_most: float) -> None:
    budget = parse_budget(text)
    assert (budget.quantity, budget.at_most) == (quantity, pytest.approx(at_most))
    # Only a time is replaced by what it is worth in MACs.
    assert budget.counted_limit(macs=7.0) == (7.0 if budget.is_time else budget.at_most)


@pytest.mark.parametrize("text", ["", "25", "fps", "0 ms", "-1 ms", "3 GB", "1..5 ms", "inf ms"])
def test_other_budgets_are_refused(text: str) -> None:
    with refused(place="--budget", hint="such as '25 fps'"):
        parse_budget(text)


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_people(tmp_path_factory.mktemp("people"))


def arguments(data_root: Path, output: Path, **changed: str) -> list[str]:
    given = {
        "train": "train/annotations.json",
        "images": "train/images",
        "test": "test/annotations.json",
        "test-images": "test/images",
        "data-root": str(data_root),
        "budget": "6 MMACs",
        "hours": "1",
        "space": "tiny",
        "device": "cpu",
        **changed,
    }
    named = [word for name, value in given.items() for word in (f"--{name}", value)]
    return ["init", *named, "-o", str(output)]


def test_it_measures_and_writes_an_experiment(
    data_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for effort in ("BRIEF", "THOROUGH"):
        monkeypatch.setattr(first_experiment, effort, Effort(warm_up=0, steps=1, persons=1))
    output = tmp_path / "mine.yaml"
    assert main(arguments(data_root, output)) == 0
    config = read_experiment(output)
    assert config.search is not None and config.supernet is not None
    (constraint,) = config.search.constraints
    assert constraint.quantity == "macs" and 1e6 < constraint.at_most <= 6e6
    hours = [config.supernet.schedule.hours, config.retrain.schedule.hours]
    # Searches take at most 0.15 of the 0.9 hours.
    assert all(one is not None and 0.29 < one < 0.55 for one in hours)
    assert "expected: supernet" in capsys.readouterr().out
    assert main(arguments(data_root, output)) == 1  # nobody's file is lost
    assert "--force replaces it" in capsys.readouterr().err


def test_time_becomes_computation_by_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """1 ms and 2 ms for each MMACs: 5 ms are 2 MMACs, less the margin."""
    monkeypatch.setattr(first_experiment, "_milliseconds", lambda *_: (2e-6, 1.0))
    space = read_space(find_shipped("search_spaces", "tiny", ".yaml"))
    macs, within = first_experiment._macs_within(space, parse_budget("5 ms"))
    assert macs == pytest.approx(first_experiment.MARGIN * 2e6)
    assert 0 < within < 1


def test_the_stages_fill_the_hours_by_hand() -> None:
    """1,600 persons are 100 steps of 16 an epoch: 10 s of the supernet, 5 s of a network."""
    found = fit_schedule(1.0, StageSeconds(0.1, 0.5, 0.05, 0.25), 1600, num_probed=4, num_shared=0)
    # 540 s for two searches of 300 trials at most, of which they take 300.
    assert (found.num_trials, found.expected.search) == (300, 300)
    assert found.expected.supernet == pytest.approx(0.4 * (0.9 * 3600 - 300))
    assert found.expected.retrain == pytest.approx(0.6 * (0.9 * 3600 - 300))
    # Four probes of four subnets.
    assert found.supernet_epochs == pytest.approx((1176 - 4 * 4 * 0.25) / 10)
    assert found.probe_epochs == found.supernet_epochs / 4
    assert found.num_steps == 11720
    probes = found.retrain_epochs / found.probe_epochs
    assert 5 * found.retrain_epochs + 0.25 * probes == pytest.approx(found.expected.retrain)
    # Scores of 5 s: 540 s are 108 of them, and 20 of both searches are the same.
    found = fit_schedule(1.0, StageSeconds(0.1, 5.0, 0.05, 0.25), 1600, 4, num_shared=20)
    assert (found.num_trials, found.expected.search) == (64, 540)


def test_short_hours_are_shared_too() -> None:
    """The smallest search takes 200 s of 540; there is a probe in each epoch of 50 s."""
    seconds = StageSeconds(0.5, 5.0, 0.5, 1.0)
    found = fit_schedule(600 / 3600, seconds, 1600, num_probed=4, num_shared=0)
    assert (found.num_trials, found.expected.search, found.probe_epochs) == (20, 200, 1.0)
    assert found.supernet_epochs == pytest.approx(0.4 * 340 / (50 + 4 * 1.0))
    assert found.retrain_epochs == pytest.approx(0.6 * 340 / (50 + 1.0))
    least = fit_schedule(found.hours_needed, seconds, 1600, num_probed=4, num_shared=0)
    assert min(least.supernet_epochs, least.retrain_epochs) == pytest.approx(2.0)


def test_short_hours_take_a_smaller_input(
    data_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Steps of 3 s at the first input and of 0.3 s at the second: 54 and more than 1,000."""
    sizes = [((128, 96), 6e6), ((96, 72), 6e6)]

    def timed(level: ImageLevel, *_: object) -> StageSeconds:
        step = 3.0 if level.config.input_hw == (128, 96) else 0.3
        return StageSeconds(step, 0.1, step, 0.1)

    monkeypatch.setattr(first_experiment, "_inputs_within", lambda *_: iter(sizes))
    monkeypatch.setattr(first_experiment, "stage_seconds", timed)
    output = tmp_path / "mine.yaml"
    assert main(arguments(data_root, output, hours="1", space="quick")) == 0
    assert read_experiment(output).input_hw == (96, 72)
    assert "input 128 x 96: time for" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"hours": "0.0001"}, "--hours: expected at least"),
        ({"hours": "soon"}, "--hours: expected a number above 0, got soon"),
        ({"budget": "1 kparams"}, "--budget: expected one that networks of tiny can meet"),
        ({"train": "none.json"}, "none.json"),
    ],
)
def test_what_cannot_be_is_one_line(
    data_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, str],
    message: str,
) -> None:
    monkeypatch.setattr(
        first_experiment, "stage_seconds", lambda *_: StageSeconds(0.1, 0.5, 0.05, 0.25)
    )
    assert main(arguments(data_root, tmp_path / "mine.yaml", **changed)) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "mine.yaml").exists()


def test_without_a_terminal_what_is_missing_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", "-o", str(tmp_path / "mine.yaml"), "--train", "t.json"]) == 1
    assert "--images: expected a value, got none" in capsys.readouterr().err


def test_a_budget_of_time_says_how_it_was_measured() -> None:
    assert str(Budget("latency_ms", 40.0, "25 fps")) == "25 fps on 1 thread(s) of onnxruntime"
