"""The folder of a run: what its results depend on, who works in it, several searches in it."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from experiment_fixture import EXPERIMENT, draw_people, write_experiment

from vipnas.arch.io import read_arch, write_arch
from vipnas.cli.main import main
from vipnas.config.experiment import ExperimentConfig
from vipnas.data.formats.skeletons import SKELETONS
from vipnas.files import parse, write_atomically
from vipnas.models.counting import count_cost
from vipnas.pipeline.datasets import Datasets
from vipnas.pipeline.run_folder import RunFolder, made_with
from vipnas.shipped import find_shipped
from vipnas.space.yaml import read_space

pytestmark = pytest.mark.usefixtures("brief_plan")

TINY = read_space(find_shipped("search_spaces", "tiny"))
DOCUMENT: dict[str, Any] = {
    **copy.deepcopy(EXPERIMENT),
    "skeleton": "skeleton.yaml",
    "monitoring": {"probe_epochs": None},
}
Command = Callable[..., tuple[int, str, str]]


def changed(section: str, **changes: Any) -> dict[str, Any]:
    return {**DOCUMENT, section: {**DOCUMENT[section], **changes}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data`, an experiment with a skeleton of its own, and the finished `run`."""
    directory = tmp_path_factory.mktemp("finished")
    draw_people(directory / "data")
    shutil.copy(SKELETONS / "coco_17.yaml", directory / "skeleton.yaml")
    write_experiment(directory, DOCUMENT)
    assert main(arguments(directory, "run")) == 0
    return directory


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


@pytest.fixture
def run(copied: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command on the copy; returns the exit code, what it printed, and its errors."""

    def run_command(command: str, *more: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(arguments(copied, command, *more))
        return code, *capsys.readouterr()

    return run_command


def arguments(directory: Path, command: str, *more: str) -> list[str]:
    places = ["--output", str(directory / "run"), "--data-root", str(directory / "data")]
    return [command, str(directory / "experiment.yaml"), *places, "--device", "cpu", *more]


def move_a_joint(directory: Path, split: str) -> None:
    """Correct one label by a pixel."""
    file = directory / "data" / split / "annotations.json"
    document = json.loads(file.read_text())
    document["annotations"][0]["keypoints"][0] += 1
    file.write_text(json.dumps(document))


@pytest.mark.parametrize("command", ["train-supernet", "search", "retrain"])
def test_a_changed_label_is_named(copied: Path, run: Command, command: str) -> None:
    move_a_joint(copied, "train")
    code, printed, error = run(command)
    assert code == 1 and "train annotations: expected no change, got changed since 20" in error
    assert "done already" not in printed


def test_an_image_of_another_size_is_named(copied: Path, run: Command) -> None:
    image = next((copied / "data" / "train" / "images").iterdir())
    image.write_bytes(image.read_bytes() + b"\0")
    code, _, error = run("train-supernet")
    assert code == 1 and "train images: expected no change, got changed since 20" in error


def test_a_budget_that_nothing_keeps_is_named_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    budget = {"quantity": "macs", "at_most": 1000}
    write_experiment(tmp_path, changed("search", constraints=[budget]) | {"skeleton": "coco_17"})
    assert main(arguments(tmp_path, "run")) == 1  # there are no data either
    error = capsys.readouterr().err
    assert "experiment.yaml: search: constraint macs: at_most: expected at least" in error


@pytest.mark.parametrize("command", ["train-supernet", "search", "retrain"])
def test_a_changed_sigma_is_named(copied: Path, run: Command, command: str) -> None:
    file = copied / "skeleton.yaml"
    assert "0.072" in file.read_text()
    file.write_text(file.read_text().replace("0.072", "0.073", 1))
    code, printed, error = run(command)
    assert code == 1 and "skeleton.sigmas[" in error
    assert "expected 0.072, got 0.073" in error and "done already" not in printed


def test_a_skeleton_of_another_name_is_the_same(copied: Path, run: Command) -> None:
    (copied / "skeleton.yaml").rename(copied / "other.yaml")
    write_experiment(copied, {**DOCUMENT, "skeleton": "other.yaml"})
    code, printed, _ = run("train-supernet")
    assert code == 0 and "done already" in printed


def test_changed_test_labels_are_named_and_measured_again(copied: Path, run: Command) -> None:
    move_a_joint(copied, "test")
    code, printed, _ = run("retrain")
    assert code == 0 and "test annotations: expected no change, got changed since 20" in printed
    assert "on the test set" in printed
    assert "on the test set" not in run("retrain")[1]


@pytest.mark.parametrize(
    ("document", "place"),
    [
        (changed("data", calibration_persons=7), "train.calibration_persons: expected 8, got 7"),
        (changed("data", val_persons=5), "train.val_persons: expected 4, got 5"),
        ({**DOCUMENT, "codec": "dark"}, 'codec: expected "quarter", got "dark"'),
        ({**DOCUMENT, "flip_test": False}, "flip_test: expected true, got false"),
        ({**DOCUMENT, "evaluation_batch_size": 8}, "evaluation_batch_size: expected 64, got 8"),
        (
            {**DOCUMENT, "augmentation": {"rotation_deg": 10.0}},
            "augmentation.rotation_deg: expected 30.0, got 10.0",
        ),
        (changed("search", pending=2), "search.pending: expected 4, got 2"),
    ],
)
def test_what_scores_depend_on_cannot_change_in_a_search(
    copied: Path, run: Command, document: dict[str, Any], place: str
) -> None:
    write_experiment(copied, document)
    code, _, error = run("search")
    assert code == 1 and f"trials.jsonl: {place} (choose another --name or --output" in error


def test_a_sigma_that_the_supernet_was_not_trained_with_is_named(
    copied: Path, run: Command
) -> None:
    write_experiment(copied, {**DOCUMENT, "sigma_px": 1.5})
    code, _, error = run("search")
    assert code == 1
    assert "supernet.safetensors: sigma_px: expected the experiment's 1.5, got 2.0" in error


def test_several_searches_over_one_supernet(copied: Path, run: Command) -> None:
    before = (copied / "run" / "search" / "trials.jsonl").read_bytes()
    budget = [{"quantity": "macs", "at_most": 3_000_000}]
    write_experiment(copied, changed("search", constraints=budget))
    assert run("search")[0] == 1
    code, _, error = run("search", "--name", "tight")
    assert code == 0, error
    folder = copied / "run"
    assert count_cost(read_arch(folder / "search_tight" / "best.json")).macs <= 3_000_000
    assert (folder / "search" / "trials.jsonl").read_bytes() == before
    assert run("retrain", "--name", "tight")[0] == 0
    assert made_with(folder / "retrain_tight" / "network.pt") != made_with(
        folder / "retrain" / "network.pt"
    )
    assert run("search", "--name", "../up")[0] == 1


def test_retrain_keeps_to_the_budgets_of_today(copied: Path, run: Command, tmp_path: Path) -> None:
    write_arch(tmp_path / "largest.json", TINY.max_arch())
    code, _, error = run("retrain", "--arch", str(tmp_path / "largest.json"))
    macs = count_cost(TINY.max_arch()).macs
    assert code == 1 and f"largest.json: expected macs 0 to 6,000,000, got {macs:,}" in error
    budget = [{"quantity": "params", "at_most": 10}]
    write_experiment(copied, changed("search", constraints=budget))
    code, _, error = run("retrain")
    assert code == 1 and "best.json: expected params 0 to 10, got " in error


@pytest.mark.parametrize("early_stop_margin", [pytest.param(None, marks=pytest.mark.slow), 0.001])
def test_a_search_that_grows_is_the_larger_search(
    copied: Path, run: Command, early_stop_margin: float | None
) -> None:
    def searched(name: str, *counts: int) -> list[dict[str, Any]]:
        for count in counts:
            changes = {"num_trials": count, "early_stop_margin": early_stop_margin}
            write_experiment(copied, changed("search", **changes))
            assert run("search", "--name", name)[0] == 0
        folder = copied / "run" / f"search_{name}"
        lines = (folder / "trials.jsonl").read_text().splitlines()[1:]
        trials = [{**json.loads(line), "seconds": 0, "worker": None} for line in lines]
        best = json.loads((folder / "best.json").read_text())["arch"]
        return [{"best": best}, *sorted(trials, key=lambda t: (t["method"], t["number"]))]

    assert searched("grown", 5, 9) == searched("fresh", 9)
    code, _, error = run("search", "--name", "grown")
    assert code == 0
    write_experiment(copied, changed("search", num_trials=8, early_stop_margin=early_stop_margin))
    code, _, error = run("search", "--name", "grown")
    assert code == 1 and "num_trials: expected 9 or more, as many trials as it holds" in error


@pytest.fixture
def holder(copied: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that works in the supernet's folder."""
    code = (
        "import sys, time; from pathlib import Path;"
        "from vipnas.pipeline.run_folder import RunFolder;"
        "run = RunFolder(Path(sys.argv[1])); lock = run.lock(run.supernet); lock.__enter__();"
        "print('locked', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(copied / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_a_second_process_is_told_who_holds_the_folder(
    holder: subprocess.Popen[str], run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Datasets, "training_crops", property(lambda _: pytest.fail("too late")))
        answers = [run(command) for command in ("run", "train-supernet")]
    expected = f"supernet: expected a free folder, got one in use by process {holder.pid} on"
    for code, _, error in answers:
        assert code == 1 and expected in error and " -c " in error  # its command
    assert run("retrain")[0] == 0  # another stage is free
    holder.kill()
    holder.wait()
    code, printed, _ = run("train-supernet")
    assert code == 0 and "done already" in printed


def test_a_lock_is_taken_again_within_and_leaves_no_name(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    names = folder.search / ".lock.json"
    with folder.lock(folder.search), folder.lock(folder.search):
        assert json.loads(names.read_text())["pid"] == os.getpid()
    assert not names.exists()


def test_a_target_that_was_replaced_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, target = RunFolder(tmp_path), tmp_path / "supernet" / "supernet.pt"
    assert not folder.is_done(target, {"seed": 0})
    write_atomically(target, b"weights")
    write_atomically(target.with_name("checkpoint.pt"), b"")  # killed before it was marked
    assert not folder.is_done(target, {"seed": 0})
    folder.mark_done(target, {"seed": 0})
    record = json.loads(target.with_name("done.json").read_text())
    assert record["threads"] == torch.get_num_threads() and record["version"] == 1
    assert folder.is_done(target, {"seed": 0})
    target.write_bytes(b"other")
    with pytest.raises(
        ValueError, match="supernet.pt: expected the file that was made, got a changed one"
    ):
        folder.is_done(target, {"seed": 0})
    # A change of vipnas's own, by another number of threads than the training.
    done = target.with_name("done.json")
    done.write_text(json.dumps({**record, "threads": 99}))
    target.write_bytes(b"weights")

    def killed(self: Path, target: Path) -> None:
        if self.name.startswith(".other"):
            raise KeyboardInterrupt
        os.replace(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt), folder.replacing(target) as file:  # killed half-way
        file.write_bytes(b"other")
    assert target.read_bytes() == b"weights" and folder.is_done(target, {"seed": 0})
    monkeypatch.undo()
    with folder.replacing(target) as file:
        assert not file.exists()
    assert target.read_bytes() == b"weights"
    with folder.replacing(target) as file:
        file.write_bytes(b"other")
    assert target.read_bytes() == b"other" and folder.is_done(target, {"seed": 0})
    assert json.loads(done.read_text())["threads"] == 99
    assert not [path for path in target.parent.iterdir() if path.name.startswith(".other")]


def test_synthetic_data_are_known_by_their_settings(tmp_path: Path) -> None:
    """Without a look at their files, which need not exist."""
    synthetic = {"num_train_images": 5, "num_test_images": 2}
    document = {**EXPERIMENT, "data": {"synthetic": synthetic, "val_persons": 1}}
    config = parse(ExperimentConfig, document, "experiment")
    first = Datasets(config, tmp_path, tmp_path / "data").train_settings()
    assert first["synthetic"]["version"] >= 2 and first["synthetic"]["num_images"] == 5
    other = replace(config, seed=1)
    assert Datasets(other, tmp_path, tmp_path / "data").train_settings() != first
    assert not list(tmp_path.iterdir())


def test_files_beside_the_experiment_come_first_and_are_said(
    copied: Path, run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = find_shipped("search_spaces", "tiny").read_text()
    beside, here = copied / "tiny.yaml", tmp_path / "here"
    here.mkdir()
    (here / "tiny.yaml").write_text("spoilt")
    monkeypatch.chdir(here)
    code, printed, _ = run("train-supernet")
    assert code == 0 and f"space: {find_shipped('search_spaces', 'tiny')}" in printed
    beside.write_text(text)
    for name in ("tiny", "tiny.yaml"):
        write_experiment(copied, {**DOCUMENT, "space": name})
        code, printed, _ = run("train-supernet")
        assert code == 0 and "done already" in printed
        assert f"experiment: {copied / 'experiment.yaml'}" in printed
        assert f"space: {beside}" in printed
