"""N processes with their shares train what one does with the whole batch, or stop and say so."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import distributed_worker
import pytest
import torch
from distributed_worker import train_together
from torch import Tensor

from vipnas.training.checkpoint import load_checkpoint
from vipnas.training.distributed import ALONE, Processes, device_name

WORKER = Path(distributed_worker.__file__)


def start(number: int, directory: Path, case: str) -> list[tuple[int, str]]:
    """Exit codes and errors of so many processes that train together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    together = {"WORLD_SIZE": str(number), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(directory), case],
            env={**os.environ, **together, "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(number)
    ]
    errors = [process.communicate()[1] for process in processes]
    return [(process.returncode, error) for process, error in zip(processes, errors, strict=True)]


def flat(value: Any, name: str = "") -> dict[str, Tensor]:
    if isinstance(value, dict):
        parts = [flat(part, f"{name}.{key}") for key, part in value.items()]
        return {key: tensor for part in parts for key, tensor in part.items()}
    return {name: value} if isinstance(value, Tensor) else {}


def trained(state: dict[str, Any]) -> dict[str, Tensor]:
    names = ("network", "averaged", "optimizer", "mean_loss")
    return flat({name: state[name] for name in names})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "case"),
    [(2, "supernet"), (4, "supernet"), (2, "retrain"), (2, "taught"), (2, "clips")],
)
def test_several_processes_train_what_one_does(number: int, case: str, tmp_path: Path) -> None:
    assert start(number, tmp_path, case) == [(0, "")] * number
    expected = trained(train_together(case, ALONE, tmp_path).state())
    states = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(number)]
    for found in map(trained, states):
        assert found.keys() == expected.keys() and len(expected) > 100
        for name in expected:
            torch.testing.assert_close(found[name], expected[name], rtol=1e-8, atol=1e-10, msg=name)
    # Among themselves to the bit.
    assert all(torch.equal(trained(states[0])[n], trained(states[-1])[n]) for n in expected)


@pytest.mark.slow
def test_without_synchronised_batch_norm_it_is_another_training_but_in_step(tmp_path: Path) -> None:
    assert start(2, tmp_path, "ghost") == [(0, "")] * 2
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(trained(first)[n], trained(second)[n]) for n in trained(first))
    one = trained(train_together("ghost", ALONE, tmp_path).state())
    weight = "network.layers.stem.conv.weight"
    assert (trained(first)[f".{weight}"] - one[f".{weight}"]).abs().max() > 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "message"),
    [
        (
            "disagree",
            r"step 0: the arch to train: expected the same in all processes, got the hashes ",
        ),
        ("start", r"step \d: the start: expected the same in all processes, got the hashes "),
    ],
)
def test_processes_that_disagree_stop_all_and_say_so(
    case: str, message: str, tmp_path: Path
) -> None:
    results = start(2, tmp_path, case)
    assert [code for code, _ in results] == [1, 1]
    for _, error in results:
        assert re.match(message + r"0: [0-9a-f]{12}, 1: [0-9a-f]{12}\n$", error), error
    assert not list(tmp_path.glob("*.pt"))


@pytest.mark.slow
def test_what_is_not_finite_in_one_process_stops_all_and_leaves_the_joint_batch(
    tmp_path: Path,
) -> None:
    results = start(2, tmp_path, "not finite")
    assert [code for code, _ in results] == [1, 1]
    assert all("step 2: losses or gradients are not finite" in error for _, error in results)
    assert all("8 images, keypoints of rows [5] not finite" in error for _, error in results)
    found_images, found_keypoints = load_checkpoint(tmp_path / "failure.pt")["batch"]
    images, keypoints = distributed_worker.joint_batch(2)
    assert torch.equal(found_images, images)
    assert torch.equal(found_keypoints[:5], keypoints[:5])


def test_one_process_talks_to_nobody() -> None:
    values = torch.arange(3.0)
    ALONE.agree("anything", object())
    ALONE.average([values])
    with ALONE.first_then_others():
        pass
    assert values.tolist() == ALONE.mean(values).tolist() == [0.0, 1.0, 2.0]
    assert ALONE.joint(values) is values


def test_the_shares_are_the_batch() -> None:
    rows = list(range(12))
    assert sorted(row for rank in range(4) for row in rows[Processes(rank, 4).share(12)]) == rows
    assert rows[Processes(1, 4).share(12)] == [1, 5, 9]
    with pytest.raises(
        ValueError, match="batch_size: expected a multiple of the 4 processes, got 10"
    ):
        Processes(1, 4).share(10)


def test_each_process_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert [device_name(name) for name in ("cuda", "cpu", "cuda:1")] == ["cuda:3", "cpu", "cuda:1"]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert device_name(None) == "cpu"
    monkeypatch.delenv("LOCAL_RANK")
    assert device_name("cuda") == "cuda"
