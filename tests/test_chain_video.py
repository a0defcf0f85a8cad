"""The chain of both levels, small; run again it does nothing; slice, file and figures agree."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from experiment_fixture import files_below, write_experiment
from model_fixture import load_network

from vipnas.arch.clip import FollowUp, Fusion
from vipnas.arch.io import read_video_arch, write_arch
from vipnas.cli.main import main
from vipnas.data.crops.loader import training_batches
from vipnas.models.counting import mean_cost
from vipnas.models.file import read_clip, read_clip_supernet
from vipnas.pipeline import work
from vipnas.shipped import find_shipped

pytestmark = pytest.mark.usefixtures("brief_plan")

SCHEDULE = {"epochs": 0.1, "batch_size": 4, "learning_rate": 1e-3}
BUDGET = 7_000_000
EXPERIMENT: dict[str, Any] = {
    "seed": 0,
    "space": "tiny",
    "skeleton": "posetrack_18",
    "data": {
        "synthetic_video": {
            "num_train_videos": 4,
            "num_test_videos": 2,
            "num_frames": 6,
            "num_train_frames": 4,
            "image_hw": [80, 100],
            "people_per_video": [1, 1],
        },
        "val_persons": 4,
        "calibration_persons": 4,
    },
    "flip_test": False,
    "monitoring": {"probe_epochs": None},
    "supernet": {"sampling": {"num_random": 1}, "schedule": SCHEDULE},
    "search": {"num_trials": 2, "evolution": {"population_size": 2}},
    "retrain": {"init_from": "supernet", "schedule": SCHEDULE},
    "video": {
        "space": "tiny",
        "num_follow_ups": 2,
        "fusion": {"stages": [1, 2], "operations": ["none", "add", "mul", "cat", "warp"]},
        "supernet": {"schedule": SCHEDULE},
        "search": {
            "num_trials": 3,
            "constraints": [{"quantity": "macs", "at_most": BUDGET}],
            "evolution": {"population_size": 2},
        },
        "retrain": {"schedule": SCHEDULE},
        "calibration_clips": 4,
        "val_clips": 4,
    },
}


def arguments(directory: Path, command: str, *more: str) -> list[str]:
    places = ["--output", str(directory / "run"), "--device", "cpu"]
    return [*command.split(), str(directory / "experiment.yaml"), *places, *more]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("video_chain")
    write_experiment(directory, EXPERIMENT)
    assert main(arguments(directory, "run")) == 0
    return directory


@pytest.mark.timeout(120)
def test_training_videos_have_their_own_length(finished: Path) -> None:
    data = finished / "run" / "data"
    lengths = {
        split: len([*(data / split / "images" / "000001").iterdir()]) for split in ("train", "test")
    }
    assert lengths == {"train": 4, "test": 6}


@pytest.mark.timeout(120)
def test_it_leaves_all_its_artefacts(finished: Path) -> None:
    video = finished / "run" / "video"
    best = read_video_arch(video / "search" / "best.json")
    key_frame = load_network(finished / "run" / "retrain" / "network.safetensors")
    assert best.key_frame == key_frame.arch and len(best) == 3
    assert mean_cost(best).macs <= BUDGET
    supernet, _ = read_clip_supernet(video / "supernet" / "supernet.safetensors")
    assert len(supernet.fusions) == 6
    network, _ = read_clip(video / "retrain" / "network.safetensors")
    assert network.arch == best
    kept = network.key_frame.state_dict()
    assert all((kept[name] == tensor).all() for name, tensor in key_frame.state_dict().items())
    for name in ("along_clip", "retrain/predictions_frames", "retrain/ap_by_joint"):
        assert (video / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_the_summary_says_what_the_networks_cost_and_find(finished: Path) -> None:
    video = finished / "run" / "video"
    summary = json.loads((video / "summary.json").read_text())
    metrics = json.loads((video / "retrain" / "metrics.json").read_text())
    assert metrics.pop("settings")["boxes"] == "annotated"
    assert metrics.pop("threads") == 1
    best = read_video_arch(video / "search" / "best.json")
    rows = {row["networks"]: row for row in summary["test"]}
    assert {key: rows["found, retrained"][key] for key in metrics} == metrics
    assert metrics.keys() == {"coco", "posetrack"}
    assert rows["found, retrained"]["macs"] == mean_cost(best).macs
    assert [row["distance"] for row in summary["drift"]] == list(range(6))  # videos of 6 frames
    mean = sum(frame["macs"] for frame in summary["along_clip"]) / 3
    assert abs(mean - mean_cost(best).macs) <= 1


def test_run_again_it_does_nothing(finished: Path) -> None:
    run = finished / "run"
    before = files_below(run)
    assert main(arguments(finished, "run")) == 0
    after = files_below(run)
    changed = {name for name in after if after[name] != before.get(name)}
    timed = {"summary.json", *(name for name in after if name.endswith("seconds.json"))}
    assert changed <= timed and before.keys() == after.keys()


def test_what_was_edited_is_named_before_anything_runs(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The space of the follow-up networks, by content, and a budget that no clip can keep."""
    shutil.copytree(finished / "run", tmp_path / "run")
    video = {**EXPERIMENT["video"], "space": "follow"}
    write_experiment(tmp_path, {**EXPERIMENT, "video": video})
    tiny = find_shipped("search_spaces", "tiny").read_text()
    assert tiny.count("width: [16, 24, 32]") == 1
    (tmp_path / "follow.yaml").write_text(tiny)  # the same by another name
    assert main(arguments(tmp_path, "video train-supernet")) == 0
    before = files_below(tmp_path / "run")

    def refused_by(command: str) -> str:
        capsys.readouterr()
        assert main(arguments(tmp_path, command)) == 1
        found = capsys.readouterr()
        assert "done already" not in found.out and files_below(tmp_path / "run") == before
        return found.err

    (tmp_path / "follow.yaml").write_text(tiny.replace("width: [16, 24, 32]", "width: [24, 32]"))
    place = "stages[1].width: expected"
    for command in ("run", "video train-supernet"):
        wanted = f"supernet/done.json: follow_up_space.{place} [16, 24, 32], got [24, 32] (remove "
        assert wanted in refused_by(command)
    wanted = f"supernet.safetensors: space.{place} [24, 32], got [16, 24, 32]"
    assert wanted in refused_by("video search")
    (tmp_path / "follow.yaml").write_text(tiny)
    budget = {"quantity": "macs", "at_most": 1000}
    video["search"] = {**video["search"], "constraints": [budget]}
    write_experiment(tmp_path, {**EXPERIMENT, "video": video})
    assert "video.search: constraint macs: at_most: expected at least" in refused_by("run")


@pytest.mark.slow
def test_an_exported_clip_is_evaluated_as_its_model_file_is(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, exported = finished / "run/video/retrain/network.safetensors", tmp_path / "exported"
    assert main(["video", "export", str(network), "-o", str(exported)]) == 0
    found = []
    for model in (network, exported):
        capsys.readouterr()
        assert main(arguments(finished, "video evaluate", str(model), "--json")) == 0
        found.append(json.loads(capsys.readouterr().out))
    native, by_files = (scores["coco"] for scores in found)
    assert by_files["ap"] == pytest.approx(native["ap"], abs=1e-3)
    image = str(finished / "run/retrain/network.safetensors")
    assert main(arguments(finished, "video evaluate", image)) == 1
    assert "expected the networks of a clip, got a file of kind image" in capsys.readouterr().err


def test_figures_of_other_settings_are_measured_anew(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "run", tmp_path / "run")
    write_experiment(tmp_path, {**EXPERIMENT, "video": {**EXPERIMENT["video"], "boxes": "pose"}})
    retrained = tmp_path / "run" / "video" / "retrain"
    weights, metrics = (retrained / "network.safetensors").read_bytes(), retrained / "metrics.json"
    measured = json.loads(metrics.read_text())
    metrics.write_text(json.dumps({**measured, "coco": "of other boxes"}))
    assert main(arguments(tmp_path, "video retrain")) == 0
    assert (retrained / "network.safetensors").read_bytes() == weights
    again = json.loads(metrics.read_text())
    assert again["settings"] == {**measured["settings"], "boxes": "pose"}
    assert again["coco"].keys() == measured["coco"].keys()


def test_key_frames_by_need_keep_the_budget_on_the_validation_videos(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished / "run", tmp_path / "run")
    retrained = tmp_path / "run" / "video" / "retrain"
    by_need = {"trigger": "change", "max_interval": 4, "val_videos": 3}
    write_experiment(
        tmp_path, {**EXPERIMENT, "video": {**EXPERIMENT["video"], "key_frames": by_need}}
    )
    network, _ = read_clip(retrained / "network.safetensors")
    assert main(arguments(tmp_path, "video retrain")) == 0
    again, header = read_clip(retrained / "network.safetensors")
    rule, metrics = header.key_frames, json.loads((retrained / "metrics.json").read_text())
    assert rule is not None and (rule.trigger, rule.max_interval) == ("change", 4)
    assert metrics["settings"]["key_frames"] == by_need
    assert 0 < metrics["key_frames"]["share"] < 1
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    before = files_below(retrained)
    assert main(arguments(tmp_path, "video retrain")) == 0
    assert files_below(retrained) == before
    capsys.readouterr()
    more = ("--json", str(retrained / "network.safetensors"))
    assert main(arguments(tmp_path, "video evaluate", *more)) == 0
    assert json.loads(capsys.readouterr().out)["key_frames"] == metrics["key_frames"]


@pytest.mark.parametrize("weights", ["own", "shared"])
def test_found_networks_train_on_with_weights_of_their_own_or_with_one_set(
    finished: Path, tmp_path: Path, weights: str
) -> None:
    shutil.copytree(finished / "run", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "video" / "retrain")
    retrain = {"schedule": SCHEDULE, "weights": weights}
    write_experiment(tmp_path, {**EXPERIMENT, "video": {**EXPERIMENT["video"], "retrain": retrain}})
    best = read_video_arch(tmp_path / "run" / "video" / "search" / "best.json")
    alike = replace(best, follow_ups=(best.follow_ups[0],) * 2)
    write_arch(tmp_path / "alike.json", alike)
    assert main(arguments(tmp_path, "video retrain", "--arch", str(tmp_path / "alike.json"))) == 0
    clip, _ = read_clip(tmp_path / "run" / "video" / "retrain" / "network.safetensors")
    networks = clip.follow_ups
    pairs = zip(networks[0].parameters(), networks[1].parameters(), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs) == (weights == "shared")
    shutil.rmtree(tmp_path / "run" / "video" / "retrain")
    write_arch(tmp_path / "warp.json", replace(best, follow_ups=(None,) * 2))
    assert main(arguments(tmp_path, "video retrain", "--arch", str(tmp_path / "warp.json"))) == 0
    clip, _ = read_clip(tmp_path / "run" / "video" / "retrain" / "network.safetensors")
    assert clip.arch.follow_ups == (None, None)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_follow_up_frames_of_several_sizes_none_without_a_fusion(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fusion = {"stages": [1, 2], "operations": ["add", "mul", "cat", "warp"]}
    video = {**EXPERIMENT["video"], "input_hw": [[32, 24], [64, 48]], "fusion": fusion}
    write_experiment(tmp_path, {**EXPERIMENT, "video": video})
    assert main(arguments(tmp_path, "run")) == 0
    clips = tmp_path / "run" / "video"
    rows = json.loads((clips / "summary.json").read_text())["test"]
    assert [row["networks"] for row in rows] == [
        "found, inherited",
        "random search's best, inherited",
        "key frame's network in every frame",
        "found, retrained",
    ]
    done = json.loads((clips / "supernet" / "done.json").read_text())
    assert done["settings"]["input_hw"] == [[32, 24], [64, 48]]
    _, header = read_clip_supernet(clips / "supernet" / "supernet.safetensors")
    space = header.video_space("supernet")
    assert space.image_space.inputs_hw == ((32, 24), (64, 48))
    best = read_video_arch(clips / "search" / "best.json")
    small = replace(best.key_frame, input_hw=(32, 24))
    mixed = replace(best, follow_ups=(FollowUp(small, Fusion(1, "cat")), None))
    write_arch(tmp_path / "mixed.json", mixed)
    shutil.rmtree(clips / "retrain")
    assert main(arguments(tmp_path, "video retrain", "--arch", str(tmp_path / "mixed.json"))) == 0
    model = clips / "retrain" / "network.safetensors"
    metrics = json.loads((model.parent / "metrics.json").read_text())
    capsys.readouterr()
    assert main(arguments(tmp_path, "video evaluate", "--json", str(model))) == 0
    assert json.loads(capsys.readouterr().out)["coco"] == metrics["coco"]
    assert main(["info", str(model)]) == 0
    assert "follow-up frame 1: cat at 1, input 32 x 24" in capsys.readouterr().out


def test_evaluate_draws_and_prints_what_retraining_measured(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = finished / "frames.png"
    network = str(finished / "run" / "video" / "retrain" / "network.safetensors")
    more = ("--json", "--pictures", str(picture), network)
    assert main(arguments(finished, "video evaluate", *more)) == 0
    found = json.loads(capsys.readouterr().out)
    metrics = json.loads((finished / "run" / "video" / "retrain" / "metrics.json").read_text())
    del metrics["settings"], metrics["threads"]
    assert found == metrics
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_a_level_without_key_frame_network_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_experiment(tmp_path, EXPERIMENT)
    assert main(arguments(tmp_path, "video train-supernet")) == 1
    assert (
        "expected the network of the key frames, got none (run `vipnas retrain` first)"
        in capsys.readouterr().err
    )
    write_experiment(tmp_path, {**EXPERIMENT, "video": None})
    assert main(arguments(tmp_path, "video search")) == 1
    assert "video: expected a section of the experiment" in capsys.readouterr().err


def test_training_that_was_cut_off_ends_with_the_same_weights(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = {**SCHEDULE, "epochs": 2}
    video = {**EXPERIMENT["video"], "supernet": {"schedule": longer}}
    for name in ("whole", "cut"):
        shutil.copytree(finished / "run", tmp_path / name / "run")
        shutil.rmtree(tmp_path / name / "run" / "video")
        document = {**EXPERIMENT, "video": video, "checkpoint_minutes": 1e-9}
        write_experiment(tmp_path / name, document)
    command = "video train-supernet"
    assert main(arguments(tmp_path / "whole", command)) == 0
    with monkeypatch.context() as patch:
        patch.setattr(work, "training_batches", two_batches)
        assert main(arguments(tmp_path / "cut", command)) == 130
    assert main(arguments(tmp_path / "cut", command)) == 0
    whole, cut = (
        read_clip_supernet(tmp_path / name / "run/video/supernet/supernet.safetensors")[0]
        for name in ("whole", "cut")
    )
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, cut.state_dict()[name]), name


def two_batches(*args: Any, **named: Any) -> Iterator[Any]:
    yield from itertools.islice(training_batches(*args, **named), 2)
    raise KeyboardInterrupt
