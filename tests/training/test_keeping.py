"""Checkpoints hold everything, older ones and the best are kept, and a full disk harms none."""

from __future__ import annotations

import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from model_fixture import load_network, save_network
from torch import Tensor
from training_fixture import batch_of, supernet_of, train

from vipnas.config.schedule import Schedule
from vipnas.data.crops.loader import Batch
from vipnas.models.file import read_header
from vipnas.space.image import SearchSpace
from vipnas.training.callbacks.keeping import BestNetwork, CheckpointFile
from vipnas.training.checkpoint import load_checkpoint, save_checkpoint
from vipnas.training.loop import Backward, Training
from vipnas.training.randomness import random_state, restore_random_state, seed_process

SCHEDULE = Schedule(epochs=1, batch_size=2, learning_rate=1e-3, warmup_steps=3)


def training_of(space: SearchSpace, step: int = 0) -> Training:
    training = Training(supernet_of(space), SCHEDULE, 10)
    training.step = step
    return training


def drawing_backward(training: Training) -> Backward:
    """A user's step that draws from all three sources of randomness."""
    parameter = training.network.get_parameter("layers.stem.conv.weight")

    def backward(step: int, batch: Batch) -> dict[str, Tensor]:
        drawn = random.random() + float(np.random.random()) + float(torch.rand(()))  # noqa: NPY002
        loss = (parameter * drawn * (1 + step)).square().sum()
        loss.backward()
        return {"labels": loss.detach()}

    return backward


def test_a_step_that_draws_goes_on_as_if_nothing_had_happened(
    small_space: SearchSpace, tmp_path: Path
) -> None:
    def run(training: Training, last_step: int) -> None:
        def batches(first_step: int, num_steps: int) -> Iterator[Batch]:
            return (batch_of(small_space, step) for step in range(first_step, last_step))

        training.run(batches, drawing_backward(training))

    unbroken = training_of(small_space)
    checkpoint = CheckpointFile(tmp_path / "checkpoint.pt", {})
    run(unbroken, 3)
    checkpoint.save(unbroken)
    run(unbroken, 6)
    random.random(), np.random.random(), torch.rand(())  # noqa: NPY002, B018
    resumed = training_of(small_space)
    checkpoint.resume(resumed)
    assert resumed.step == 3
    random.random(), torch.rand(())  # noqa: B018 - as what is made between loading and running may
    run(resumed, 6)
    name = "layers.stem.conv.weight"
    assert torch.equal(resumed.network.get_parameter(name), unbroken.network.get_parameter(name))
    again = training_of(small_space)  # the same steps with other draws end elsewhere
    checkpoint.resume(again)
    again.random_to_restore = None
    run(again, 6)
    assert not torch.equal(again.network.get_parameter(name), unbroken.network.get_parameter(name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": "3"}, "step: expected int, got str"),
        ({"step": True}, "step: expected int, got bool"),
        ({"network": [1]}, "network: expected tensors by name, got list"),
        ({"averaged": {}}, "tensor .*: expected one, got none"),
        ({"mean_loss": 3.0}, "mean_loss: expected Tensor, got float"),
        ({"mean_loss": torch.zeros(3)}, "mean_loss: expected one number, got 3"),
        ({"optimizer": 7}, "optimizer: expected the state of this training, got "),
        (
            {"optimizer": {"param_groups": []}},
            "optimizer: expected the state of this training, got ",
        ),
        ({"random": {"python": 1}}, "random: expected a random state, got "),
        ({"settings": None}, "settings: expected str, got none"),
    ],
)
def test_a_state_that_is_none_is_one_line_and_draws_go_on(
    small_space: SearchSpace, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "checkpoint.pt"
    training = training_of(small_space)
    save_checkpoint(path, {**training.state(), "settings": "{}", **change})
    before = random.getstate()
    with pytest.raises(ValueError, match=f"^{path}: {message}") as error:
        CheckpointFile(path, {}).resume(training)
    assert "\n" not in str(error.value)
    assert random.getstate() == before


def test_python_and_numpy_draw_from_streams_of_their_own() -> None:
    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.random()), float(torch.rand(()))  # noqa: NPY002

    before = random_state()
    try:
        seed_process(3)
        first = drawn()
        seed_process(3)
        assert drawn() == first and len(set(first)) == 3
        # Python's, and torch's, as they always were.
        assert first[0] == random.Random(3).random()
        assert first[2] == float(torch.rand((), generator=torch.Generator().manual_seed(3)))
    finally:
        restore_random_state(before)


def test_a_supernet_is_trained_without_the_streams_of_python_and_numpy(
    small_space: SearchSpace, tmp_path: Path
) -> None:
    python, numpy = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    train(small_space, SCHEDULE, 2, tmp_path)
    assert random.getstate() == python
    assert np.random.get_state()[1].tolist() == numpy  # noqa: NPY002


def test_the_last_states_are_kept_and_those_of_a_run_gone_back_on_are_not(
    small_space: SearchSpace, tmp_path: Path
) -> None:
    checkpoint = CheckpointFile(tmp_path / "checkpoint.pt", {}, keep_last=2)
    steps = []
    for step in (1, 2, 3, 4, 2):
        checkpoint.save(training_of(small_space, step))
        kept = sorted((tmp_path / "kept").iterdir())
        steps.append([load_checkpoint(path)["step"] for path in kept])
        assert load_checkpoint(tmp_path / "checkpoint.pt")["step"] == step
    assert steps == [[1], [1, 2], [2, 3], [3, 4], [2]]
    # To go back is to copy one of them.
    (tmp_path / "checkpoint.pt").write_bytes(kept[0].read_bytes())
    training = training_of(small_space)
    checkpoint.resume(training)
    assert training.step == 2


def test_it_is_saved_at_each_epoch_and_at_the_end(small_space: SearchSpace, tmp_path: Path) -> None:
    checkpoint = CheckpointFile(tmp_path / "checkpoint.pt", {}, 1e9, every_steps=4, keep_last=9)
    train(small_space, SCHEDULE, 10, tmp_path, checkpoint=checkpoint)
    names = [path.name for path in sorted((tmp_path / "kept").iterdir())]
    assert names == ["step_000000004.pt", "step_000000008.pt", "step_000000010.pt"]


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """What a full disk or a quota does: the write stops in the middle of the file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_checkpoint_that_was_there(
    small_space: SearchSpace, tmp_path: Path
) -> None:
    checkpoint = CheckpointFile(tmp_path / "checkpoint.pt", {}, keep_last=2)
    checkpoint.save(training_of(small_space, 1))
    whole = (tmp_path / "checkpoint.pt").read_bytes()
    with files_of_at_most(len(whole) // 2), pytest.raises(OSError, match="File too large"):
        checkpoint.save(training_of(small_space, 2))
    assert (tmp_path / "checkpoint.pt").read_bytes() == whole
    assert {path.name for path in tmp_path.rglob("*.*")} == {"checkpoint.pt", "step_000000001.pt"}
    training = training_of(small_space)
    checkpoint.resume(training)
    assert training.step == 1


def test_a_state_that_is_not_whole_is_refused(small_space: SearchSpace, tmp_path: Path) -> None:
    training = training_of(small_space)
    state = training.state()
    del state["random"], state["optimizer"]
    with pytest.raises(
        ValueError, match="a.pt: expected the checkpoint .* without optimizer, random"
    ):
        training.load(state, tmp_path / "a.pt")


def test_the_best_is_a_file_of_weights_and_survives_a_resume(
    small_space: SearchSpace, tmp_path: Path
) -> None:
    path = tmp_path / "best.safetensors"
    best = BestNetwork(path, "AP", 0, save_network)
    for step, score in ((1, 0.1), (2, 0.4), (3, 0.3)):
        training = training_of(small_space, step)
        torch.nn.init.constant_(training.averaged.get_parameter("layers.stem.conv.weight"), step)
        best.offer(training, score)
    assert read_header(path).metrics == {"step": 2, "measure": "AP", "score": 0.4}
    assert load_network(path).get_parameter("layers.stem.conv.weight").unique().tolist() == [2.0]
    assert BestNetwork(path, "AP", 2, save_network).score == 0.4
    # Of a later step, or by another measure: the run starts to look again.
    assert BestNetwork(path, "AP", 1, save_network).score == -float("inf")
    assert BestNetwork(path, "loss", 2, save_network).score == -float("inf")
    # Of another origin, without a score.
    save_network(path, training_of(small_space, 1).averaged)
    assert BestNetwork(path, "AP", 2, save_network).score == -float("inf")
