"""Every YAML in `experiments/` runs: 20 steps a training and 2 trials, on data in its layout."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from experiment_fixture import files_below
from stand_in_fixture import make_stand_in
from tool_fixture import tool

from vipnas.arch.io import write_arch
from vipnas.cli.main import main
from vipnas.files import parse, read_json, read_yaml
from vipnas.models.posenet import PoseNet
from vipnas.pipeline.clip_level import ClipLevel
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.image_level import ImageLevel
from vipnas.pipeline.level import Level, best_file, network_file, supernet_file
from vipnas.pipeline.retrain import read_within_budgets
from vipnas.pipeline.supernet import check_sampling
from vipnas.search.constraints import FeasibleSpace
from vipnas.shipped import find_shipped, shipped_directory, shipped_files
from vipnas.space.image import sorted_sizes
from vipnas.space.yaml import read_space

EXPERIMENTS = shipped_directory("experiments")
NUM_STEPS, NUM_TRIALS, BATCH_SIZE, FEW = 20, 2, 2, 4
# Supernets of the paper's spaces at 256 x 192 take a core ten minutes and more.
PAPER_INPUT_HW = [64, 64]


class ShortRun:
    """A copy of a shipped experiment, cut, with data in the layout that it names."""

    def __init__(self, name: str, directory: Path) -> None:
        self.directory, self.file = directory, directory / "experiment.yaml"
        self.document: dict[str, Any] = read_yaml(shipped_files("experiments")[name])
        if "supernet" in self.document and self.document["space"].startswith("s_vipnas"):
            self.document["input_hw"] = PAPER_INPUT_HW
        self._cut_data()
        opened = self._open()
        make_stand_in(opened.config.data, opened.data_root)
        self._cut_stages(self.document, len(opened.train_data.persons))
        if "video" in self.document:
            clips = ClipLevel(opened, PoseNet(opened.space.min_arch()))
            self._cut_stages(self.document["video"], len(clips.training_data))
        self.experiment = self._open()

    def levels(self) -> Iterator[Level[Any]]:
        yield ImageLevel(self.experiment)
        if "video" in self.document:
            yield ClipLevel(self.experiment)

    def main(self, command: str, *more: str) -> int:
        run, data = str(self.directory / "run"), str(self.directory / "data")
        places = ["--output", run, "--data-root", data, "--device", "cpu"]
        return main([command, str(self.file), *places, *more])

    def whole_chain(self) -> list[int]:
        """Run all that the experiment has sections for; return the exit codes."""
        if "search" in self.document:
            return [self.main("run")]
        arch = self.directory / "arch.json"
        write_arch(arch, self.experiment.space.min_arch())
        trained = [self.main("train-supernet")] if "supernet" in self.document else []
        return [*trained, self.main("retrain", "--arch", str(arch))]

    def _open(self) -> Experiment:
        self.file.write_text(yaml.safe_dump(self.document))
        run, data = self.directory / "run", self.directory / "data"
        return Experiment.open(self.file, run, data, torch.device("cpu"))

    def _cut_data(self) -> None:
        data = self.document["data"]
        data |= {"val_persons": FEW, "calibration_persons": FEW}
        data["num_workers"] = min(data.get("num_workers", 0), 1)
        if "synthetic" in data:
            data["synthetic"] |= {"num_train_images": 12, "num_test_images": 4}
        if "synthetic_video" in data:
            data["synthetic_video"] |= {"num_train_videos": 4, "num_test_videos": 2}
        if "video" in self.document:
            self.document["video"] |= {"val_clips": FEW, "calibration_clips": FEW}

    def _cut_stages(self, level: dict[str, Any], count: int) -> None:
        """`count` is that of the persons, or clips, that the level trains on."""
        for stage in {"supernet", "retrain"} & level.keys():
            epochs = NUM_STEPS * BATCH_SIZE / count
            level[stage]["schedule"] |= {"epochs": epochs, "batch_size": BATCH_SIZE}
        if "search" in level:
            level["search"]["num_trials"] = NUM_TRIALS


@pytest.mark.parametrize("name", shipped_files("experiments"))
def test_spaces_fit_the_skeleton_and_the_budgets(name: str, tmp_path: Path) -> None:
    opened = Experiment.open(name, tmp_path, tmp_path, torch.device("cpu"))
    space = opened.space
    assert space.num_keypoints == opened.skeleton.num_joints
    given = opened.config.input_hw
    assert given is None or sorted_sizes(given) == space.inputs_hw
    assert opened.codec.heatmap_hw == space.max_arch().heatmap_hw
    key_frame = within_budgets(ImageLevel(opened))
    if opened.config.video is not None:
        level = ClipLevel(opened, PoseNet(key_frame, initialise=False))
        follow_ups = within_budgets(level).follow_ups
        joints = {follow_up.arch.num_keypoints for follow_up in follow_ups}
        assert joints == {opened.skeleton.num_joints}


def within_budgets(level: Level[Any]) -> Any:
    """Sample an architecture at the input size and within the budgets of the experiment."""
    return FeasibleSpace(level.space, level.count_cost, level.budgets).sample(random.Random(0))


@pytest.mark.parametrize("file", sorted((EXPERIMENTS / "accuracy_latency").iterdir()))
def test_studies_name_what_is_shipped(file: Path, tmp_path: Path) -> None:
    study: Any = parse(tool("benchmarks.accuracy_study").Study, read_yaml(file), str(file))
    opened = Experiment.open(study.experiment, tmp_path, tmp_path, torch.device("cpu"))
    assert Path(opened.config.space).stem in study.supernet_epochs
    shipped = shipped_files("search_spaces")
    assert {*study.supernet_epochs, *study.published, *study.scaled} <= shipped.keys()
    for name in "abcd":
        assert study.seeds_of(name if name in study.seeds else f"{name}-lat")


@pytest.mark.parametrize("file", sorted((EXPERIMENTS / "ranking").glob("*.yaml")))
def test_supernets_to_compare_fit_their_experiment(file: Path, tmp_path: Path) -> None:
    name = "ranking_lspet" if file.stem == "lspet" else "ranking"
    opened = Experiment.open(name, tmp_path, tmp_path, torch.device("cpu"))
    assert opened.config.supernet is not None
    variant_of = tool("benchmarks.compare_supernets").Variant
    kind: Any = dict[str, variant_of]
    variants: dict[str, Any] = parse(kind, read_yaml(file), str(file))
    for variant in variants.values():
        config = replace(opened.config, supernet=variant.config(opened.config.supernet, 20.0))
        check_sampling(ImageLevel(replace(opened, config=config)))


def test_the_listed_space_is_a_part_of_another() -> None:
    part, rng = read_space(EXPERIMENTS / "tables" / "enumerable_space.yaml"), random.Random(0)
    whole = read_space(find_shipped("search_spaces", "quick"))
    assert part.size == 3072
    assert all(part.sample(rng) in whole for _ in range(100))


@pytest.mark.slow
@pytest.mark.parametrize("name", shipped_files("experiments"))
def test_the_whole_chain(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # some name a crop cache relative to it
    run = ShortRun(name, tmp_path)
    assert set(run.whole_chain()) == {0}
    for level in run.levels():
        section = run.document if level.name == "image" else run.document["video"]
        if "supernet" in section:
            assert last_step(level.folder.supernet) == NUM_STEPS
            level.load_supernet(supernet_file(level))
        if "search" in section:
            assert trials_by_method(level) == {
                section["search"].get("searcher", "evolution"): NUM_TRIALS,
                "random": NUM_TRIALS,
                "reference": 2,  # the largest and the smallest
            }
            for method in (None, "random"):
                read_within_budgets(level, best_file(level, method))
        assert last_step(level.folder.retrain) == NUM_STEPS
        kept = read_json(network_file(level).with_name("metrics.json"))
        measured = level.test_metrics(network_file(level))
        assert measured and measured == {name: kept[name] for name in measured}
    before = files_below(tmp_path / "run")
    assert set(run.whole_chain()) == {0}
    after = files_below(tmp_path / "run")
    changed = {Path(file).name for file in after if before.get(file) != after[file]}
    assert before.keys() == after.keys() and changed <= {"seconds.json", "summary.json"}


def last_step(stage: Path) -> int:
    step: int = json.loads((stage / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    return step


def trials_by_method(level: Level[Any]) -> dict[str, int]:
    lines = (level.folder.search / "trials.jsonl").read_text().splitlines()[1:]
    methods = [json.loads(line)["method"] for line in lines]
    return {method: methods.count(method) for method in methods}
