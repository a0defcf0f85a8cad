"""What trainings of an experiment start from: by content, listed, refused in one line."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from errors_fixture import refused
from experiment_fixture import EXPERIMENT, write_experiment
from model_fixture import header_of_arch, load_network, save_network, save_supernet

from vipnas.arch.clip import FollowUp
from vipnas.arch.io import write_arch
from vipnas.config.clip import VideoConfig
from vipnas.files import read_json
from vipnas.models.file import write_model
from vipnas.models.posenet import PoseNet, extract
from vipnas.models.published import published_state, save_published
from vipnas.pipeline.clip_level import ClipLevel
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.image_level import ImageLevel
from vipnas.pipeline.initial import REPORT
from vipnas.pipeline.level import supernet_file
from vipnas.pipeline.model_header import header_of
from vipnas.pipeline.work import needed
from vipnas.settings import content_digest
from vipnas.space.image import SearchSpace


def level_of(directory: Path, stage: str, **keys: Any) -> ImageLevel:
    document = copy.deepcopy(EXPERIMENT)
    document[stage] |= keys
    file = write_experiment(directory, document)
    run, data = directory / "run", directory / "data"
    return ImageLevel(Experiment.open(file, run, data, torch.device("cpu")))


def assert_equal(one: torch.nn.Module, other: torch.nn.Module) -> None:
    state = other.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in one.state_dict().items())


def test_a_supernet_starts_from_a_file_beside_its_experiment(
    tiny_space: SearchSpace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = save_supernet(tmp_path / "other.safetensors", tiny_space, seed=3)
    level = level_of(tmp_path, "supernet", init_from=file.name)
    supernet = level.supernet(tmp_path / "stage")
    assert_equal(load_network(file), supernet)
    report = read_json(tmp_path / "stage" / REPORT)
    assert report["file"] == file.name and not report["missing"] and not report["resized"]
    assert f"tensors from {file}" in capsys.readouterr().out
    assert level_of(tmp_path, "supernet").supernet_settings().get("init_from") is None


def test_settings_know_the_content_of_the_file_not_its_name(
    tiny_space: SearchSpace, tmp_path: Path
) -> None:
    file = save_supernet(tmp_path / "a.safetensors", tiny_space, seed=3)
    arch = tiny_space.min_arch()

    def settings(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        level = level_of(tmp_path, "supernet", init_from=name)
        retrain = level_of(tmp_path, "retrain", init_from=name)
        weights = retrain.initial_weights(None)
        return level.supernet_settings(), retrain.retrain_settings(arch, weights)

    before = settings(file.name)
    assert settings(file.rename(tmp_path / "b.safetensors").name) == before
    save_supernet(tmp_path / "b.safetensors", tiny_space, seed=4)
    after = settings("b.safetensors")
    assert all(one["init_from"] != two["init_from"] for one, two in zip(before, after, strict=True))


def test_a_retraining_starts_from_a_supernet_or_a_network_of_another_size(
    tiny_space: SearchSpace, tmp_path: Path
) -> None:
    file, arch = tmp_path / "other.safetensors", tiny_space.min_arch()
    supernet = load_network(save_supernet(file, tiny_space, seed=3))
    level = level_of(tmp_path, "retrain", init_from=str(file))
    weights = level.initial_weights(None)
    assert_equal(extract(supernet, arch), level.network(arch, weights, tmp_path))
    save_network(file, supernet)
    assert_equal(extract(supernet, arch), level.network(arch, weights, tmp_path))


def test_a_retraining_from_the_own_supernet_trains_a_subnet_of_it(
    tiny_space: SearchSpace, tmp_path: Path
) -> None:
    level = level_of(tmp_path, "retrain", init_from="supernet")
    file, arch = supernet_file(level), tiny_space.min_arch()
    file.parent.mkdir(parents=True)
    save_supernet(file, tiny_space.with_open_choices(set()))
    with refused(f"{file}: stages[0].width", f"one of [{tiny_space.max_arch().stages[0].width}]"):
        level.network(arch, level.initial_weights(None), tmp_path)
    save_supernet(file, tiny_space.with_facts(num_keypoints=5))
    with refused(f"{file}: joints[0]"):
        level.network(arch, level.initial_weights(None), tmp_path)


def test_a_published_checkpoint_is_read_by_its_header_or_by_init_arch(
    tiny_space: SearchSpace, tmp_path: Path
) -> None:
    arch, weights = tiny_space.min_arch(), tmp_path / "weights.pth"
    torch.manual_seed(5)
    network = PoseNet(arch)
    save_published(weights, network, header_of_arch(arch))
    names = {"init_from": weights.name}
    supernet = level_of(tmp_path, "supernet", **names).supernet(tmp_path / "stage")
    assert_equal(network, extract(supernet, arch))
    torch.save(published_state(network), weights)
    with refused(str(weights), "weights of this architecture"):
        level_of(tmp_path, "supernet", **names).supernet(tmp_path / "stage")
    write_arch(tmp_path / "small.json", arch)
    for stage in ("supernet", "retrain"):
        level = level_of(tmp_path, stage, **names, init_arch="small.json")
        largest = tiny_space.max_arch()
        found = (
            level.supernet(tmp_path / "stage")
            if stage == "supernet"
            else level.network(largest, level.initial_weights(None), tmp_path / "stage")
        )
        assert_equal(network, extract(found, arch))


@torch.no_grad()
def test_follow_up_networks_of_another_space_start_as_slices_of_the_supernet_of_images(
    tmp_path: Path,
) -> None:
    """An architecture of both spaces computes the same in both supernets."""
    opened = Experiment.open("quickstart_video", tmp_path, tmp_path, torch.device("cpu"))
    video = needed(opened, opened.config.video, "video")
    video = replace(video, supernet=replace(video.supernet, init_from="supernet"))
    torch.manual_seed(3)
    images = PoseNet(opened.space.max_arch()).eval()

    def level(video: VideoConfig) -> ClipLevel:
        return ClipLevel(replace(opened, config=replace(opened.config, video=video)), images)

    clips = level(video)
    file = opened.folder.supernet / "supernet.safetensors"
    with refused(str(file), "a supernet", "none", "vipnas train-supernet"):
        clips.supernet(tmp_path)
    write_model(file, images, header_of(opened, images, opened.space))
    arch = clips.space.image_space.max_arch()
    assert arch in opened.space and arch != opened.space.max_arch()
    crops = torch.rand(1, 3, *arch.input_hw)
    heatmaps = images(crops, arch)
    follow_ups = clips.supernet(tmp_path).eval()
    assert torch.equal(follow_ups(crops, heatmaps, FollowUp(arch, None)), heatmaps)
    assert_equal(images, level(replace(video, space=None)).supernet(tmp_path).posenet)
    assert clips.supernet_settings()["init_from"] == content_digest(file)
