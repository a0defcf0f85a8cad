"""Checkpoints load without executing anything, and a bad one is one line."""

from __future__ import annotations

import io
import os
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from training_fixture import supernet_of

from vipnas.models.posenet import PoseNet
from vipnas.space.image import SearchSpace
from vipnas.training.checkpoint import (
    load_checkpoint,
    load_file,
    load_strictly,
    save_checkpoint,
    settings_in,
)

BIAS = "layers.heatmaps.conv.bias"


@pytest.fixture
def saved(small_space: SearchSpace, tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"network": supernet_of(small_space).state_dict()})
    return path


def test_a_state_and_back(small_space: SearchSpace, saved: Path) -> None:
    network, again = supernet_of(small_space), PoseNet(small_space.max_arch())
    load_strictly(again, load_checkpoint(saved)["network"], saved)
    state = again.state_dict()
    assert all(torch.equal(state[name], t) for name, t in network.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: state.pop("layers.stem.conv.weight"),
            "tensor layers.stem.conv.weight: expected one, got none",
        ),
        (lambda state: state.update(more=torch.zeros(1)), "tensor more: expected none, got one"),
        (
            lambda state: state.update({"layers.heatmaps.conv.bias": torch.zeros(16)}),
            r"tensor layers.heatmaps.conv.bias: expected \[17\] of float32, got \[16\] of float32",
        ),
        (
            lambda state: state.update({"layers.heatmaps.conv.bias": 1}),
            r"tensor layers.heatmaps.conv.bias: expected \[17\] of float32, got int",
        ),
        (
            lambda state: state.update({BIAS: "x"}),
            rf"tensor {BIAS}: expected \[17\] of float32, got str",
        ),
        (lambda state: state.update({3: 4}), "tensor 3: expected none, got one"),
        (
            lambda state: state.update({BIAS: torch.zeros(17, device="meta")}),
            rf"tensor {BIAS}: expected \[17\] of float32, got .*, without values \(meta\)",
        ),
        (
            lambda state: state.update({BIAS: torch.zeros(17, dtype=torch.int64)}),
            rf"tensor {BIAS}: expected \[17\] of float32, got \[17\] of int64",
        ),
        (
            lambda state: state.update({BIAS: torch.zeros(17).to_sparse()}),
            rf"tensor {BIAS}: expected \[17\] of float32, got \[17\] of float32, sparse",
        ),
        (
            lambda state: state.update({BIAS: torch.zeros(17, dtype=torch.complex64)}),
            rf"tensor {BIAS}: expected \[17\] of float32, got \[17\] of complex64",
        ),
    ],
)
def test_tensors_must_be_exactly_those_of_the_arch(
    small_space: SearchSpace, tmp_path: Path, change: Any, message: str
) -> None:
    network = supernet_of(small_space)
    state = dict(network.state_dict())
    change(state)
    with pytest.raises(ValueError, match=f"network.pt: {message}"):
        load_strictly(network, state, tmp_path / "network.pt")


@pytest.mark.parametrize("state", [[1], None])
def test_what_is_no_state_is_one_line(small_space: SearchSpace, state: Any, tmp_path: Path) -> None:
    found = type(state).__name__
    with pytest.raises(ValueError, match=f"a.pt: network: expected tensors by name, got {found}"):
        load_strictly(supernet_of(small_space), state, tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"settings": "{}"}, None),
        ({}, "settings: expected str, got none"),
        ({"settings": 3}, "settings: expected str, got int"),
        ({"settings": "{"}, "settings: expected JSON, got "),
        ({"settings": "[]"}, "settings: expected dict, got list"),
    ],
)
def test_settings_are_read_or_one_line(content: dict[str, Any], message: str | None) -> None:
    if message is None:
        assert settings_in(content, Path("a.pt")) == {}
        return
    with pytest.raises(ValueError, match=f"^a.pt: {message}"):
        settings_in(content, Path("a.pt"))


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    path, target = tmp_path / "network.pt", tmp_path / "harm"
    torch.save({"format": "vipnas", "version": 1, "network": Bomb(target)}, path)
    with pytest.raises(ValueError) as error:
        load_checkpoint(path)
    assert str(error.value) == (
        f"{path}: expected a checkpoint of tensors, numbers and strings, got a pickle"
        f" that names {os.mkdir.__module__}.mkdir"
    )
    assert not target.exists()


def test_a_plain_pickle_is_refused_without_warnings(tmp_path: Path) -> None:
    path = tmp_path / "plain.pt"
    path.write_bytes(pickle.dumps({"weights": bytearray(3)}, protocol=4))
    with pytest.raises(ValueError, match=r"plain.pt: .* got a pickle that PyTorch refuses: Unsup"):
        load_checkpoint(path)


def test_a_whole_network_object_is_refused(small_space: SearchSpace, tmp_path: Path) -> None:
    path = tmp_path / "network.pt"
    torch.save(PoseNet(small_space.min_arch()), path)
    refused = r"network.pt: expected a checkpoint of .* got a pickle that names vipnas\.models"
    with pytest.raises(ValueError, match=refused) as error:
        load_checkpoint(path)
    assert "add_safe_globals" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 1}, "expected a checkpoint of vipnas, got another file"),
        ([1, 2], "expected a checkpoint of vipnas, got another file"),
        ({"format": torch.ones(2)}, "expected a checkpoint of vipnas, got another file"),
        ({"format": "vipnas", "version": torch.ones(2)}, "version: expected int, got Tensor"),
        ({"format": "vipnas", "version": True}, "version: expected int, got bool"),
        ({"format": "vipnas", "version": 2}, "version: expected 1, got 2"),
    ],
)
def test_other_files_of_torch_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save(content, path)
    with pytest.raises(ValueError, match=f"checkpoint.pt: {message}"):
        load_checkpoint(path)


def test_a_truncated_file_is_one_line_wherever_it_ends(saved: Path) -> None:
    whole = saved.read_bytes()
    rng = random.Random(0)
    for length in [0, 1, 2, 100, len(whole) - 1, *(rng.randrange(len(whole)) for _ in range(20))]:
        saved.write_bytes(whole[:length])
        with pytest.raises(
            ValueError, match="checkpoint.pt: expected a checkpoint of .* strings, got ."
        ) as error:
            load_file(saved)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"hello\n", b"\x80\x02.", b"{}", b"PK\x03\x04", bytes(1000)])
def test_what_is_no_file_of_torch_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="checkpoint.pt: expected a checkpoint") as error:
        load_checkpoint(path)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="checkpoint.pt: expected a file, got no such file"):
        load_file(tmp_path / "checkpoint.pt")


def test_saving_twice_gives_the_same_bytes(small_space: SearchSpace, tmp_path: Path) -> None:
    content = {"network": supernet_of(small_space).state_dict()}
    save_checkpoint(tmp_path / "a.pt", content)
    save_checkpoint(tmp_path / "b.pt", content)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()
    assert io.BytesIO((tmp_path / "a.pt").read_bytes()).read(2) == b"PK"
