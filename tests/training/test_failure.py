"""A step that is not finite: the weights never see it, and it can be computed again."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from experiment_fixture import EXPERIMENT, draw_people, write_experiment
from torch import Tensor, nn
from training_fixture import batch_of, codec_of, sampler_of, supernet_of

from vipnas.arch.image import Arch
from vipnas.arch.io import arch_from_json, write_arch
from vipnas.cli.main import main
from vipnas.config.experiment import read_experiment
from vipnas.config.schedule import Schedule
from vipnas.data.crops.loader import Batch, Key, TrainingCrops
from vipnas.models.posenet import PoseNet
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.image_level import ImageLevel
from vipnas.pipeline.replay import replay
from vipnas.pipeline.retrain import retrain
from vipnas.pipeline.supernet import train_supernet
from vipnas.space.image import SearchSpace
from vipnas.training.checkpoint import load_checkpoint, save_checkpoint
from vipnas.training.compute import Forward
from vipnas.training.failure import FailureFile, FiniteCheck, NotFinite, Taken
from vipnas.training.loop import Training
from vipnas.training.step import ImageTask, supernet_backward

SCHEDULE = Schedule(epochs=1, batch_size=2, learning_rate=1e-3)


def exploding(supernet: PoseNet, archs: list[Arch], bad: int) -> Forward:
    """Runs the members; the heatmaps of one are not finite."""

    def forward(images: Tensor, arch: Arch | None) -> Tensor:
        heatmaps: Tensor = supernet(images * (torch.inf if arch == archs[bad] else 1.0), arch)
        return heatmaps

    return forward


def batches_of(space: SearchSpace, first_step: int, num_steps: int) -> Iterator[Batch]:
    return (batch_of(space, step) for step in range(first_step, first_step + num_steps))


def test_the_run_stops_names_the_step_the_arch_and_the_batch_and_leaves_them(
    tiny_space: SearchSpace, tmp_path: Path
) -> None:
    supernet, sampler = supernet_of(tiny_space), sampler_of(tiny_space)
    archs = [member.candidates[0] for member in sampler(2)]
    codec, path = codec_of(tiny_space), tmp_path / "failure.pt"
    whole = supernet_backward(ImageTask(supernet, codec), sampler)
    broken = supernet_backward(ImageTask(exploding(supernet, archs, 1), codec), sampler)
    training = Training(supernet, SCHEDULE, 5)
    before: dict[str, Tensor] = {}

    def backward(step: int, batch: Batch) -> dict[str, Tensor]:
        before.update({n: p.detach().clone() for n, p in supernet.named_parameters()})
        return (broken if step == 2 else whole)(step, batch)

    with pytest.raises(FloatingPointError) as error:
        training.run(
            lambda first, count: batches_of(tiny_space, first, count),
            backward,
            (),
            FailureFile(path, {"stage": "supernet"}),
        )
    line = str(error.value)
    assert re.match(r"step 2: losses or gradients are not finite: losses: largest 0\.\d+", line)
    assert re.search(rf"heatmaps of architecture 2 of {len(archs)} \([0-9a-f]{{8}}\) are not", line)
    assert "batch of step 2: 2 images" in line and f"vipnas replay {path}" in line
    assert "\n" not in line
    assert training.step == 2
    failure = load_checkpoint(path)
    assert [arch_from_json(arch, "x") for arch in failure["archs"]] == archs
    images, keypoints = batch_of(tiny_space, 2)
    assert all(map(torch.equal, failure["batch"], (images, keypoints)))
    for name, parameter in supernet.named_parameters():
        assert torch.equal(parameter, before[name]), name
        assert torch.equal(failure["network"][name], before[name]), name


def test_where_the_host_hears_of_it_late_the_weights_are_spared_all_the_same() -> None:
    """As on a GPU: the optimiser itself skips from the bad step on, the host hears one later."""
    parameter = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([parameter], lr=0.1, fused=True)
    check = FiniteCheck(optimizer, deferred=True)
    batch = (torch.zeros(1), torch.zeros(1))

    def step(number: int, gradient: float) -> None:
        parameter.grad = torch.full((3,), gradient)
        check.look(Taken(number, batch), parameter.grad.sum())
        optimizer.step()

    step(0, 1.0)
    good = parameter.detach().clone()
    assert not torch.equal(good, torch.ones(3))
    step(1, torch.nan)
    assert torch.equal(parameter, good)
    with pytest.raises(NotFinite, match="step 1: ") as error:
        step(2, 1.0)
    assert error.value.taken.step == 1
    assert torch.equal(parameter, good)


def test_a_bad_last_step_is_heard_of_too() -> None:
    parameter = nn.Parameter(torch.ones(3))
    check = FiniteCheck(torch.optim.AdamW([parameter], fused=True), deferred=True)
    check.confirm()
    check.look(Taken(0, (torch.zeros(1), torch.zeros(1))), torch.tensor(torch.inf))
    with pytest.raises(NotFinite, match="step 0"):
        check.confirm()


@pytest.mark.parametrize("stage", ["supernet", "retrain"])
def test_a_failed_step_of_an_experiment_is_computed_again_from_its_file_alone(
    stage: str,
    tiny_space: SearchSpace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = draw_people(tmp_path / "data")
    document = {**EXPERIMENT, "monitoring": {"probe_epochs": None}}
    document["retrain"] = {**document["retrain"], "init_from": "scratch"}
    config = read_experiment(write_experiment(tmp_path, document))
    experiment = Experiment(config, tmp_path / "run", data, torch.device("cpu"))

    def spoiled(self: TrainingCrops, keys: Sequence[Key]) -> Batch:
        images, keypoints = whole(self, keys)
        keypoints[1, 3, 0] = torch.nan if 2 in {index for _, index in keys} else keypoints[1, 3, 0]
        return images, keypoints

    whole = TrainingCrops.__getitems__
    monkeypatch.setattr(TrainingCrops, "__getitems__", spoiled)
    with pytest.raises(FloatingPointError) as error:
        if stage == "supernet":
            train_supernet(ImageLevel(experiment))
        else:
            arch = tmp_path / "arch.json"
            write_arch(arch, tiny_space.min_arch())
            retrain(ImageLevel(experiment), arch)
    monkeypatch.undo()
    shutil.rmtree(data)
    step, diagnosis = replay(tmp_path / "run" / stage / "failure.pt", torch.device("cpu"))
    assert not diagnosis.is_finite and diagnosis.bad_arch is None
    assert str(error.value).startswith(
        f"step {step}: losses or gradients are not finite: {diagnosis};"
    )
    assert "keypoints of rows [1] not finite" in str(error.value)
    file = tmp_path / "run" / stage / "failure.pt"
    assert main(["replay", str(file)]) == 1
    line = f"vipnas replay: {file}: step {step}: {diagnosis}"
    assert capsys.readouterr().err.splitlines()[-1] == line
    assert not (tmp_path / "run" / stage / f"{stage}.pt").exists()


def test_what_is_no_failure_is_not_replayed(
    tiny_space: SearchSpace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "failure.pt"
    save_checkpoint(path, {"arch": "{}", "network": {}, "step": 1})
    missing = "batch, experiment, level, stage, train_persons"
    line = f"{path}: expected the file of a failed step, got one without {missing}"
    with pytest.raises(ValueError, match=re.escape(line)):
        replay(path, torch.device("cpu"))
    assert main(["replay", str(path)]) == 1
    assert capsys.readouterr().err == f"vipnas replay: {line}\n"


def test_a_step_that_is_finite_here_is_shown(
    tiny_space: SearchSpace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, (images, keypoints) = PoseNet(tiny_space.min_arch()), batch_of(tiny_space, 0)
    failure = {
        "arch": network.arch.to_json(),
        "network": network.state_dict(),
        "step": 7,
        "batch": [images, keypoints],
        "stage": "retrain",
        "level": "image",
        "train_persons": 2,
        "experiment": json.dumps(EXPERIMENT),
    }
    path = tmp_path / "failure.pt"
    save_checkpoint(path, failure)
    assert main(["replay", str(path)]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("step 7: losses: ") and printed.err == ""
    refused: list[tuple[dict[str, Any], str]] = [
        ({"batch": images}, "batch: expected list, got Tensor"),
        ({"batch": []}, "tensor batch 0: expected one, got none"),
        ({"batch": [images, 7]}, f"batch 1: expected {list(keypoints.shape)} of float32, got int"),
        ({"batch": [images.float(), keypoints]}, f"of uint8, got {list(images.shape)} of float32"),
        ({"batch": [images[..., 1:], keypoints]}, "tensor batch 0: expected ["),
        ({"step": -1}, "step and train_persons: expected numbers from 0 and 1, got -1 and 2"),
        ({"stage": "search"}, "stage: expected one of retrain, supernet, got 'search'"),
        ({"level": "word"}, "level: expected one of clip, image, got 'word'"),
    ]
    for change, words in refused:
        save_checkpoint(path, {**failure, **change})
        assert main(["replay", str(path)]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"vipnas replay: {path}: ") and words in line
