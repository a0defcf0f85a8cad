"""The plan of a run: what is done, how long the rest takes, and what is said on the way."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from experiment_fixture import EXPERIMENT, draw_people, write_experiment
from search_fixture import trial

from vipnas.config.search import SearchConfig
from vipnas.files import to_plain
from vipnas.pipeline import plan
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.image_level import ImageLevel
from vipnas.pipeline.plan import PlannedStage, RunPlan, duration, plan_run
from vipnas.pipeline.stage_seconds import StageSeconds, stage_seconds
from vipnas.pipeline.step_seconds import Effort
from vipnas.threads import Timed
from vipnas.training.checkpoint import save_checkpoint
from vipnas.training.loop import Training
from vipnas.training.randomness import random_state

IMAGES: Any = SimpleNamespace(name="image")
NO_OUTCOME: Any = None


def planned(*done: int) -> RunPlan:
    """100 steps, 12 trials and 50 steps of 1 s, 0.5 s and 2 s."""
    rows = (
        ("supernet", "steps", 100, 1.0),
        ("search", "trials", 12, 0.5),
        ("retrain", "steps", 50, 2.0),
    )
    return RunPlan(
        [
            PlannedStage(name, unit, total, count, seconds)
            for (name, unit, total, seconds), count in zip(rows, done, strict=True)
        ]
    )


def test_what_is_left_by_hand() -> None:
    assert planned(0, 0, 0).seconds_left() == 100 + 6 + 100
    resumed = planned(100, 2, 0)
    assert resumed.seconds_left() == 5 + 100
    *stages, total = str(resumed).splitlines()
    assert [line.split() for line in stages] == [
        ["supernet", "done"],
        ["search", "10", "of", "12", "trials", "about", "5", "s"],
        ["retrain", "50", "steps", "about", "2", "min"],
    ]
    assert total.split()[:4] == ["all", "about", "2", "min,"]
    assert str(planned(100, 12, 50)).count("done") == 3
    resumed.begin(IMAGES, "retrain")  # the search may have ended early
    assert resumed.seconds_left() == 100


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (600, "10 min"), (5400, "1.5 h")]
)
def test_durations_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_pace_of_a_stage_replaces_what_was_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    run = planned(0, 0, 0)
    run.begin(IMAGES, "supernet")
    for step, seconds in ((41, 0.0), (42, 10.0), (61, 50.0)):  # resumed at step 40
        now = 1000.0 + seconds
        run.after_step(SimpleNamespace(step=step, num_steps=100), NO_OUTCOME)  # type: ignore[arg-type]
    # 20 steps in 50 s: 39 more take 2.5 s each.
    assert run.seconds_left() == pytest.approx(39 * 2.5 + 6 + 100)
    assert capsys.readouterr().out == ""
    now += 20.0
    run.after_step(SimpleNamespace(step=62, num_steps=100), NO_OUTCOME)  # type: ignore[arg-type]
    line = capsys.readouterr().out
    assert line.startswith("run: supernet 62/100; about 4 min left, until ")
    search = run.begin(IMAGES, "search")
    for _ in range(3):
        search.after_trial(NO_OUTCOME)
    assert run.seconds_left() == pytest.approx(9 * 0.5 + 100)


def test_a_training_in_hours_has_steps_once_it_runs() -> None:
    run = planned(100, 12, 0)
    run.stages[2] = stage = PlannedStage("retrain", "training", 1, 0, 1620.0)
    assert str(stage).split() == ["retrain", "1", "training", "about", "27", "min"]
    run.begin(IMAGES, "retrain")
    run.after_step(SimpleNamespace(step=41, num_steps=81), NO_OUTCOME)  # type: ignore[arg-type]
    assert run.seconds_left() == pytest.approx(40 * 20.0)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> ImageLevel:
    folder = tmp_path_factory.mktemp("plan")
    draw_people(folder / "data")
    path = write_experiment(folder, EXPERIMENT)
    run = folder / "run"
    return ImageLevel(Experiment.open(path, run, folder / "data", torch.device("cpu")))


def test_done_stages_steps_and_trials_are_found(
    opened: ImageLevel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "stage_seconds", lambda *_: StageSeconds(0.1, 0.5, 0.05, 0.2))
    num_persons, num_val = len(opened.training_data), len(opened.experiment.val_data.persons)
    steps = round(num_persons / 4)
    supernet, search, retraining = plan_run(opened).stages
    assert (supernet.total, search.total, retraining.total) == (steps, 3 + 3 + 2, steps)
    # A probe an epoch: four subnets of the supernet, on the whole small validation split.
    assert opened.crops_of_score(None) == opened.crops_of_score(100) == 2 * num_val + 8
    assert supernet.seconds_each == pytest.approx(0.1 + 4 * 0.2 / steps)
    assert (supernet.is_most, search.is_most, retraining.is_most) == (False, False, True)
    # All 3 trials are random ones: 5 of 8 are scored.
    assert search.seconds_each == 0.5 * 5 / 8
    assert retraining.seconds_each == pytest.approx(0.05 + 0.2 / steps)
    folder = opened.folder
    for stage in (folder.supernet, folder.search):
        stage.mkdir(parents=True)
    save_checkpoint(folder.supernet / "checkpoint.pt", {"step": 2})
    arch = opened.space.min_arch()
    trials = [trial(n, arch, 0.5, method) for method in ("evolution", "other") for n in range(2)]
    lines = [{"version": 1, "settings": {}}, *map(to_plain, trials)]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (folder.search / "trials.jsonl").write_text(text)
    assert [stage.done for stage in plan_run(opened).stages] == [2, 2, 0]
    hours = replace(opened.config.retrain.schedule, epochs=None, hours=0.1)
    config = replace(opened.config, retrain=replace(opened.config.retrain, schedule=hours))
    in_hours = ImageLevel(replace(opened.experiment, config=config))
    *_, last = plan_run(in_hours).stages
    assert (last.total, last.unit, last.seconds_each, last.is_most) == (1, "training", 360, False)
    folder.retrain.mkdir(parents=True)
    (folder.retrain / "epochs.json").write_text("2.0")
    *_, last = plan_run(in_hours).stages
    assert (last.total, last.unit, last.is_most) == (round(2 * num_persons / 4), "steps", True)


def test_timing_leaves_threads_and_randomness_as_they_are(opened: ImageLevel) -> None:
    before, threads = random_state(), torch.get_num_threads()
    arch = opened.space.min_arch()
    seconds = stage_seconds(opened, arch, [arch], Effort(0, 1, 0.0, 2))
    assert min(seconds.supernet_step, seconds.score, seconds.retrain_step) > 0
    assert seconds.probe == seconds.score  # the validation split has fewer persons than a probe
    after = random_state()
    assert torch.equal(before["torch"], after["torch"]) and threads == torch.get_num_threads()
    assert torch.equal(before["python"][1], after["python"][1])


def test_steps_are_timed_with_the_threads_that_a_training_chooses(
    opened: ImageLevel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a busy process, two threads may take a hundred times as long as one."""
    found, run = [], Training.run
    monkeypatch.setattr("vipnas.threads.usable_cores", lambda *_: 3)
    monkeypatch.setattr(
        "vipnas.pipeline.stage_seconds.time_step", lambda *_: Timed({1: 1.0, 2: 0.4, 3: 0.39})
    )

    def noted(*arguments: Any) -> None:
        found.append(torch.get_num_threads())
        run(*arguments)

    monkeypatch.setattr(Training, "run", noted)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    arch = opened.space.min_arch()
    stage_seconds(opened, arch, [arch], Effort(0, 1, 0.0, 2))
    assert found == [2, 2]


def test_the_expected_network_is_near_the_budget(opened: ImageLevel) -> None:
    macs = opened.count_cost(plan.expected_arch(opened)).macs
    assert 5_000_000 < macs <= 6_000_000
    median, costly = (opened.count_cost(arch).macs for arch in plan.expected_trials(opened))
    assert 2_000_000 < median < 3_000_000 and median < costly <= macs
    without = replace(opened.experiment.config, search=SearchConfig(num_trials=2))
    free = ImageLevel(replace(opened.experiment, config=without))
    assert plan.expected_arch(free) == free.space.max_arch()
