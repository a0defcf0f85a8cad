"""Schedules by hand; a training that was interrupted ends bit for bit where the unbroken does."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from errors_fixture import refused
from torch import Tensor
from training_fixture import batch_of, codec_of, sampler_of, supernet_of, train

from vipnas.config.schedule import Schedule
from vipnas.data.crops.loader import Batch
from vipnas.space.image import SearchSpace
from vipnas.training.callbacks.keeping import CheckpointFile
from vipnas.training.checkpoint import load_checkpoint
from vipnas.training.loop import Outcome, Training, parameter_groups
from vipnas.training.step import ImageTask, supernet_backward

SCHEDULE = Schedule(
    epochs=1, batch_size=2, learning_rate=1e-3, warmup_steps=3, weight_decay=0.01, clip_norm=1.0
)


NOTHING = Outcome({}, torch.tensor(0.0), 0.0)


def test_steps_are_epochs_of_persons() -> None:
    assert (
        Schedule(epochs=2, batch_size=32, learning_rate=1e-3).num_steps(1000) == 62
    )  # 62.5, to even
    assert Schedule(epochs=0.5, batch_size=32, learning_rate=1e-3).num_steps(640) == 10
    assert Schedule(epochs=0.01, batch_size=32, learning_rate=1e-3).num_steps(10) == 1


def test_the_cosine_by_hand() -> None:
    schedule = Schedule(epochs=1, batch_size=1, learning_rate=0.5, warmup_steps=4)
    rates = [schedule.learning_rate_at(step, 100) for step in (0, 1, 50, 75)]
    expected = [
        0.5 * 1 / 4,
        0.5 * 2 / 4 * (1 + math.cos(math.pi / 100)) / 2,
        0.25,
        0.5 * (1 - math.sqrt(0.5)) / 2,
    ]
    assert rates == pytest.approx(expected, rel=1e-12)
    assert schedule.learning_rate_at(99, 100) == pytest.approx(0.5 * 2.467e-4, rel=1e-3)


def test_the_steps_by_hand() -> None:
    schedule = Schedule(
        epochs=1, batch_size=1, learning_rate=0.5, warmup_steps=0, decay="step", drop_at=(0.5, 0.75)
    )
    rates = [schedule.learning_rate_at(step, 8) for step in range(8)]
    assert rates == pytest.approx([0.5] * 4 + [0.05] * 2 + [0.005] * 2)


def test_a_warm_up_longer_than_the_run_ends_with_it() -> None:
    schedule = Schedule(
        epochs=1, batch_size=1, learning_rate=1.0, warmup_steps=10, decay="step", drop_at=()
    )
    assert [schedule.learning_rate_at(step, 3) for step in range(3)] == pytest.approx(
        [0.1, 0.2, 0.3]
    )


@pytest.mark.parametrize(
    ("change", "expected", "found"),
    [
        ({"epochs": 0}, "a number above 0", "0"),
        ({"batch_size": -1}, "a number above 0", "-1"),
        ({"learning_rate": 0.0}, "a number above 0", "0.0"),
        ({"clip_norm": 0}, "a number above 0", "0"),
        ({"batch_size": 10**9}, "a number of at most 65536", "1000000000"),
        ({"learning_rate": 1e300}, "a number of at most 1000", "1e+300"),
        ({"warmup_steps": -1}, "a number from 0", "-1"),
        ({"learning_rate": math.nan}, "a number above 0", "nan"),
        ({"drop_at": (0.5, 2.0)}, "numbers from 0 to 1", "[0.5, 2.0]"),
        ({"average_decay": 1.0}, "a number from 0 to below 1", "1.0"),
    ],
)
def test_impossible_schedules_are_refused(
    change: dict[str, Any], expected: str, found: str
) -> None:
    (place,) = change
    with refused(place, expected, found):
        Schedule(**{"epochs": 1, "batch_size": 2, "learning_rate": 1e-3, **change})


def test_weights_of_convolutions_decay_and_nothing_else(small_space: SearchSpace) -> None:
    network = supernet_of(small_space)
    decayed, others = parameter_groups(network, 0.1)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert {id(p) for p in (*decayed["params"], *others["params"])} == set(names)
    assert len(decayed["params"]) + len(others["params"]) == len(names)
    for parameter in others["params"]:
        name = names[id(parameter)]
        assert "norm" in name or name.endswith("bias")
    for parameter in decayed["params"]:
        assert names[id(parameter)].endswith("weight") and "norm" not in names[id(parameter)]


def test_the_average_by_hand(small_space: SearchSpace, tmp_path: Path) -> None:
    """Weights that follow a known course: 1 at every step, from 0."""
    network = supernet_of(small_space)
    training = Training(
        network, Schedule(epochs=1, batch_size=1, learning_rate=1e-3, average_decay=0.2), 5
    )
    for parameter in (*network.parameters(), *training.averaged.parameters()):
        torch.nn.init.zeros_(parameter)
    for parameter in network.parameters():
        torch.nn.init.ones_(parameter)
    training._average(torch.tensor(3.0))
    assert float(training.mean_loss) == 3.0
    found = next(training.averaged.parameters()).flatten()[0]
    assert float(found) == pytest.approx(1 - 1 / 10)  # quick at first: decay (1 + 0) / (10 + 0)
    training.step = 1000
    training._average(torch.tensor(0.0))
    assert float(training.mean_loss) == pytest.approx(3 * 49 / 50)
    assert float(found) == pytest.approx(1 - 1 / 10 * 0.2)


def state_of(training: Training) -> dict[str, Tensor]:
    """Everything that the next step depends on, flat."""
    optimizer = training.optimizer.state_dict()["state"]
    return {
        **{f"network.{name}": tensor for name, tensor in training.network.state_dict().items()},
        **{f"averaged.{name}": tensor for name, tensor in training.averaged.state_dict().items()},
        **{
            f"optimizer.{number}.{name}": torch.as_tensor(value)
            for number, state in optimizer.items()
            for name, value in state.items()
        },
        "step": torch.tensor(training.step),
    }


def assert_same(first: Training, second: Training) -> None:
    one, other = state_of(first), state_of(second)
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different


@pytest.mark.parametrize("at", [1, 5, 9])
def test_interrupted_it_ends_where_the_unbroken_training_does(
    small_space: SearchSpace, tmp_path: Path, at: int
) -> None:
    unbroken = train(small_space, SCHEDULE, 10, tmp_path / "unbroken")
    train(small_space, SCHEDULE, 10, tmp_path / "broken", stop_after=at)
    assert load_checkpoint(tmp_path / "broken" / "checkpoint.pt")["step"] == at
    resumed = train(small_space, SCHEDULE, 10, tmp_path / "broken")
    assert resumed.step == unbroken.step == 10
    assert_same(resumed, unbroken)
    before = supernet_of(small_space).state_dict()
    assert not torch.equal(
        before["layers.stem.conv.weight"], resumed.network.state_dict()["layers.stem.conv.weight"]
    )


def test_a_finished_training_run_again_changes_nothing(
    small_space: SearchSpace, tmp_path: Path
) -> None:
    first = train(small_space, SCHEDULE, 3, tmp_path)
    assert_same(train(small_space, SCHEDULE, 3, tmp_path), first)


def test_checkpoints_are_written_when_due_and_not_between(
    small_space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000, 25))  # each look at the clock is 25 seconds later
    monkeypatch.setattr(
        "vipnas.training.callbacks.keeping.time.monotonic", lambda: float(next(clock))
    )
    checkpoint = CheckpointFile(tmp_path / "checkpoint.pt", {}, minutes=1.0)
    training = Training(supernet_of(small_space), SCHEDULE, 10)
    written = []
    for step in range(1, 9):
        training.step = step
        checkpoint.after_step(training, NOTHING)
        if (tmp_path / "checkpoint.pt").exists():
            written.append(load_checkpoint(tmp_path / "checkpoint.pt")["step"])
    assert sorted(set(written)) == [3, 6]


def test_gradients_that_are_not_finite_stop_before_they_reach_the_weights(
    small_space: SearchSpace, tmp_path: Path
) -> None:
    supernet = supernet_of(small_space)
    training = Training(supernet, SCHEDULE, 3)
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}

    def explode(step: int, batch: Batch) -> dict[str, Tensor]:
        loss = sum(parameter.sum() for parameter in supernet.parameters()) * math.nan
        assert isinstance(loss, Tensor)
        loss.backward()
        return {"labels": loss.detach()}

    with pytest.raises(FloatingPointError, match="step 0: losses or gradients are not finite"):
        training._update(explode, (torch.zeros(1), torch.zeros(1)))
    assert all(torch.equal(before[name], t) for name, t in supernet.state_dict().items())


def test_gradients_are_clipped_to_the_norm(small_space: SearchSpace) -> None:
    supernet = supernet_of(small_space)
    training = Training(supernet, SCHEDULE, 3)
    parameters = list(supernet.parameters())

    def push(step: int, batch: Batch) -> dict[str, Tensor]:
        for parameter in parameters:
            parameter.grad = torch.full_like(parameter, 100.0)
        return {"labels": torch.tensor(1.0)}

    training._update(push, (torch.zeros(1), torch.zeros(1)))
    squares = sum(float(p.grad.square().sum()) for p in parameters if p.grad is not None)
    assert math.sqrt(squares) == pytest.approx(1.0, rel=1e-4)


def test_a_checkpoint_of_other_settings_is_refused(
    small_space: SearchSpace, tmp_path: Path
) -> None:
    training = Training(supernet_of(small_space), SCHEDULE, 3)
    path = tmp_path / "checkpoint.pt"
    CheckpointFile(path, {"seed": 0, "data": {"n": 3}}).save(training)
    with pytest.raises(ValueError, match=r"checkpoint.pt: seed: expected 0, got 1 \(remove"):
        CheckpointFile(path, {"seed": 1, "data": {"n": 3}}).resume(training)


def test_pytorch_is_silent_about_windows_of_gradients_while_training_and_only_then(
    small_space: SearchSpace, tmp_path: Path
) -> None:
    codec, supernet = codec_of(small_space), supernet_of(small_space)
    backward = supernet_backward(ImageTask(supernet, codec), sampler_of(small_space))
    torch.set_warn_always(True)  # else once a process
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            train(small_space, SCHEDULE, 1, tmp_path)
            assert [str(warning.message) for warning in seen] == []
            backward(0, batch_of(small_space, 0))
        assert any("gradient layout contract" in str(warning.message) for warning in seen)
    finally:
        torch.set_warn_always(False)
