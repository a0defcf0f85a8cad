"""What is shown of a run: the same numbers twice, each step once, and the training as without."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_fixture import load_network
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer
from torch import nn
from training_fixture import batch_of, codec_of, supernet_of, train

from vipnas.arch.image import Arch
from vipnas.config.schedule import Schedule
from vipnas.evaluation.metrics import Metrics
from vipnas.evaluation.scoring import InheritedScore
from vipnas.models.file import read_header
from vipnas.models.posenet import PoseNet
from vipnas.space.image import SearchSpace
from vipnas.training.callbacks.monitor import drop_lines_after
from vipnas.training.callbacks.probes import Probes, heatmaps_over_crops, probed_archs

SCHEDULE = Schedule(epochs=1, batch_size=2, learning_rate=1e-3, warmup_steps=3)


class StandInEvaluator:
    """Instead of people to find: the AP is a function of the weights, the crops are noise."""

    batch_size = 2

    def __init__(self, space: SearchSpace) -> None:
        self.crops = self
        self.images_B3HW = batch_of(space, 0)[0]
        self.codec = codec_of(space)

    def at(self, arch: Arch) -> StandInEvaluator:
        return self

    def __call__(self, network: nn.Module) -> Metrics:
        with torch.no_grad():
            mean = network(torch.ones(1, *self.images_B3HW.shape[1:])).mean()
        torch.manual_seed(1)  # as if the scoring drew from the process's randomness
        return Metrics(**{**dict.fromkeys(Metrics.__dataclass_fields__, 0.0), "ap": float(mean)})


def scorer_of(space: SearchSpace, evaluator: Any) -> Callable[[nn.Module], InheritedScore]:
    def make(network: nn.Module) -> InheritedScore:
        assert isinstance(network, PoseNet)
        return InheritedScore(network, space, evaluator, evaluator.images_B3HW)

    return make


def probes_of(space: SearchSpace, every_steps: int) -> Probes[Arch]:
    evaluator: Any = StandInEvaluator(space)
    archs = probed_archs(space, seed=0, num_random=1)
    return Probes(archs, every_steps, scorer_of(space, evaluator))


def lines_of(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def test_probes_change_nothing_of_the_training(small_space: SearchSpace, tmp_path: Path) -> None:
    bare = train(small_space, SCHEDULE, 6, tmp_path / "bare").state()
    probes = probes_of(small_space, 2)
    looked_at = train(small_space, SCHEDULE, 6, tmp_path / "seen", probes=probes).state()
    for part in ("network", "averaged"):
        for name, tensor in bare[part].items():
            assert torch.equal(tensor, looked_at[part][name]), name
    for one, other in zip(
        bare["optimizer"]["state"].values(), looked_at["optimizer"]["state"].values(), strict=True
    ):
        assert all(torch.equal(one[name], other[name]) for name in one)
    probed = [line for line in lines_of(tmp_path / "seen") if "ap/largest" in line]
    assert [line["step"] for line in probed] == [2, 4, 6]
    assert torch.equal(bare["random"]["torch"], looked_at["random"]["torch"])


def test_the_averaged_weights_with_the_best_mean_are_kept(
    small_space: SearchSpace, tmp_path: Path
) -> None:
    class Better(StandInEvaluator):
        """Every score is better than the one before."""

        number = 0

        def __call__(self, network: nn.Module) -> Metrics:
            self.number += 1
            return replace(super().__call__(network), ap=self.number / 100)

    evaluator: Any = Better(small_space)
    archs = probed_archs(small_space, seed=0, num_random=0)
    probes = Probes(archs, 2, scorer_of(small_space, evaluator))
    trained = train(small_space, SCHEDULE, 4, tmp_path, probes=probes)
    assert read_header(tmp_path / "best.safetensors").metrics["score"] == pytest.approx(0.035)
    kept = load_network(tmp_path / "best.safetensors").state_dict()
    assert all(torch.equal(kept[n], t) for n, t in trained.averaged.state_dict().items())


def test_tensorboard_and_the_lines_have_the_same_numbers(
    small_space: SearchSpace, tmp_path: Path
) -> None:
    train(small_space, SCHEDULE, 22, tmp_path, probes=probes_of(small_space, 11))
    lines = lines_of(tmp_path)
    assert [line["step"] for line in lines] == [11, 20, 22]
    assert lines[1].keys() == {
        "step",
        *(f"loss/{kind}" for kind in ("largest", "random", "smallest")),
        *("gradient_norm", "learning_rate", "images_per_second", "memory_mib"),
    }
    assert lines[0].keys() == {"step", "ap/largest", "ap/smallest", "ap/random_1"}
    assert lines[2].keys() == lines[0].keys() | lines[1].keys()
    assert lines[1]["learning_rate"] == SCHEDULE.learning_rate_at(19, 22)
    assert 10 < lines[1]["memory_mib"] < 100_000 and lines[1]["images_per_second"] > 0
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    for name in lines[2].keys() - {"step"}:
        shown = {event.step: event.value for event in events.Scalars(name)}
        told = {line["step"]: line[name] for line in lines if name in line}
        assert shown == pytest.approx(told, rel=1e-6), name
    assert [event.step for event in events.Images("heatmaps")] == [11, 22]


def test_after_a_kill_no_step_is_told_twice(
    small_space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # TensorBoard reads files of one second in the order of their names, in which 10 is before 9.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    train(small_space, SCHEDULE, 24, unbroken, probes=probes_of(small_space, 3))
    # Killed after step 22, its last checkpoint being that of step 15, in the middle of a line.
    train(small_space, SCHEDULE, 24, broken, 15, probes=probes_of(small_space, 3))
    checkpoint = (broken / "checkpoint.pt").read_bytes()
    train(small_space, SCHEDULE, 24, broken, 22, probes=probes_of(small_space, 3))
    (broken / "checkpoint.pt").write_bytes(checkpoint)
    with (broken / "metrics.jsonl").open("a") as file:
        file.write('{"step": 24, "loss/lar')
    train(small_space, SCHEDULE, 24, broken, probes=probes_of(small_space, 3))
    measured = {"images_per_second", "memory_mib"}
    told, expected = (
        [{name: value for name, value in line.items() if name not in measured} for line in lines]
        for lines in (lines_of(broken), lines_of(unbroken))
    )
    assert told == expected
    events = EventAccumulator(str(broken / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("ap/largest")] == [3, 6, 9, 12, 15, 18, 21, 24]


def test_lines_are_dropped_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    drop_lines_after(path, 3)
    assert not path.exists()
    path.write_text('{"step": 1}\n{"step": 3}\n{"step": 4}\n{"step": 5')
    drop_lines_after(path, 3)
    assert path.read_text() == '{"step": 1}\n{"step": 3}\n'
    path.write_text('{"step": 1}\n{"st')
    drop_lines_after(path, 3)
    assert path.read_text() == '{"step": 1}\n'


def test_the_probed_members_are_the_same_all_along(small_space: SearchSpace) -> None:
    archs = probed_archs(small_space, seed=3, num_random=2)
    assert archs == probed_archs(small_space, 3, 2) != probed_archs(small_space, 4, 2)
    assert (archs["largest"], archs["smallest"]) == (small_space.max_arch(), small_space.min_arch())
    assert all(arch in small_space for arch in archs.values())


def test_the_heat_lies_over_the_place_and_nowhere_else(tiny_space: SearchSpace) -> None:
    heatmaps = torch.zeros(2, tiny_space.num_keypoints, *tiny_space.max_arch().heatmap_hw)
    heatmaps[:, 0, 2, 1] = 1.0  # row 2, column 1
    images = torch.full((2, 3, *tiny_space.input_hw), 100, dtype=torch.uint8)
    height, width = tiny_space.input_hw
    stride = height // tiny_space.max_arch().heatmap_hw[0]
    picture = heatmaps_over_crops(images, heatmaps)
    assert picture.shape == (height, 2 * width, 3)
    changed = np.abs(picture.astype(int) - 100).sum(2) > 0
    for crop in (changed[:, :width], changed[:, width:]):
        rows, columns = np.nonzero(crop)
        middle = (2 + 0.5) * stride - 0.5, (1 + 0.5) * stride - 0.5
        assert (rows.mean(), columns.mean()) == pytest.approx(middle, abs=1)
        assert np.ptp(rows) <= 2 * stride and np.ptp(columns) <= 2 * stride
    red, green, blue = picture[round(middle[0]), round(middle[1])]
    assert red > green and red > blue


def test_a_probe_that_fails_is_no_reason_to_stop(small_space: SearchSpace, tmp_path: Path) -> None:
    class Fails(StandInEvaluator):
        def __call__(self, network: nn.Module) -> Metrics:
            raise FloatingPointError("the network's heatmaps are not finite")

    evaluator: Any = Fails(small_space)
    probes = Probes({"network": small_space.max_arch()}, 1, scorer_of(small_space, evaluator))
    assert probes(supernet_of(small_space)).aps == {"network": 0.0}
