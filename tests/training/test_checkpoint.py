"""Checkpoints load strictly, without executing anything, and a bad one is one line."""

from __future__ import annotations

import io
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training_fixture import supernet_of

from vipnas.models.posenet import PoseNet
from vipnas.models.published import save_published
from vipnas.space.image import SearchSpace
from vipnas.training.checkpoint import (
    load_checkpoint,
    load_file,
    load_network,
    load_weights,
    save_checkpoint,
    save_network,
    settings_in,
)

BIAS = "layers.heatmaps.conv.bias"


@pytest.fixture
def saved(small_space: SearchSpace, tmp_path: Path) -> Path:
    path = tmp_path / "network.pt"
    save_network(path, supernet_of(small_space))
    return path


def test_a_network_and_back(small_space: SearchSpace, saved: Path) -> None:
    network, again = supernet_of(small_space), load_network(saved)
    assert again.arch == network.arch == small_space.max_arch()
    assert not again.training
    state = again.state_dict()
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(state[name], t) for name, t in network.state_dict().items())
    images = torch.randn(1, 3, *small_space.input_hw, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again(images), network.eval()(images))


def test_another_arch_is_refused_with_the_first_difference(
    small_space: SearchSpace, saved: Path
) -> None:
    arch = small_space.max_arch()
    wanted = replace(arch, stages=(replace(arch.stages[0], depth=1),))
    with pytest.raises(ValueError, match="network.pt: holds another arch: stages: found .*depth=2"):
        load_network(saved, wanted)
    load_network(saved, arch)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: state.pop("layers.stem.conv.weight"),
            "tensor layers.stem.conv.weight is missing",
        ),
        (lambda state: state.update(more=torch.zeros(1)), "tensor more is not expected"),
        (
            lambda state: state.update({"layers.heatmaps.conv.bias": torch.zeros(16)}),
            r"tensor layers.heatmaps.conv.bias: found shape \(16,\), needed is \(17,\)",
        ),
        (lambda state: state.update({BIAS: "x"}), f"{BIAS}: expected a tensor, got str"),
        (lambda state: state.update({3: 4}), "tensor 3 is not expected"),
        (
            lambda state: state.update({BIAS: torch.zeros(17, device="meta")}),
            rf"tensor {BIAS}: expected floats, got no values \(meta\)",
        ),
        (
            lambda state: state.update({BIAS: torch.zeros(17, dtype=torch.int64)}),
            f"tensor {BIAS}: expected floats, got integers",
        ),
        (
            lambda state: state.update({BIAS: torch.zeros(17).to_sparse()}),
            f"tensor {BIAS}: expected floats, got sparse values",
        ),
        (
            lambda state: state.update({BIAS: torch.zeros(17, dtype=torch.complex64)}),
            f"tensor {BIAS}: expected floats, got complex numbers",
        ),
    ],
)
def test_tensors_must_be_exactly_those_of_the_arch(
    small_space: SearchSpace, tmp_path: Path, change: Any, message: str
) -> None:
    network = supernet_of(small_space)
    state = dict(network.state_dict())
    change(state)
    path = tmp_path / "network.pt"
    save_checkpoint(path, {"arch": network.arch.to_json(), "network": state})
    with pytest.raises(ValueError, match=f"network.pt: {message}"):
        load_network(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": [1]}, "network: expected tensors by name, got list"),
        ({"network": None}, "network: expected tensors by name, got NoneType"),
        ({"arch": 5}, "arch: expected str, got int"),
        ({"arch": "[" * 100_000}, "not valid JSON: nested too deeply"),
    ],
)
def test_what_is_no_network_is_one_line(
    small_space: SearchSpace, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    network = supernet_of(small_space)
    path = tmp_path / "network.pt"
    content = {"arch": network.arch.to_json(), "network": network.state_dict(), **change}
    save_checkpoint(path, content)
    with pytest.raises(ValueError, match=f"network.pt: {message}") as error:
        load_network(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"settings": "{}"}, None),
        ({}, "settings: expected str, got none"),
        ({"settings": 3}, "settings: expected str, got int"),
        ({"settings": "{"}, "settings: not valid JSON: "),
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
        f"{path}: not a readable checkpoint: expected tensors, numbers and strings, got a pickle"
        f" that names {os.mkdir.__module__}.mkdir"
    )
    assert not target.exists()


def test_a_whole_network_object_is_refused(small_space: SearchSpace, tmp_path: Path) -> None:
    path = tmp_path / "network.pt"
    torch.save(PoseNet(small_space.min_arch()), path)
    refused = r"network.pt: not a readable checkpoint: .* got a pickle that names vipnas\.models"
    with pytest.raises(ValueError, match=refused) as error:
        load_network(path)
    assert "add_safe_globals" not in str(error.value)


def test_published_weights_that_we_wrote_say_their_arch(
    small_space: SearchSpace, tmp_path: Path
) -> None:
    path, network = tmp_path / "network.pth", PoseNet(small_space.min_arch())
    save_published(path, network)
    loaded = load_weights(path)
    assert loaded.arch == network.arch
    pairs = zip(loaded.state_dict().values(), network.state_dict().values(), strict=True)
    assert all(torch.equal(found, kept) for found, kept in pairs)
    released = torch.load(path, weights_only=True)
    del released["meta"]
    torch.save(released, path)
    with pytest.raises(ValueError, match="do not say their arch: give it with --arch"):
        load_weights(path)
    torch.save({**released, "meta": {"vipnas_arch": "{"}}, path)
    with pytest.raises(ValueError, match="network.pth: not valid JSON"):
        load_weights(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 1}, "not a vipnas checkpoint"),
        ([1, 2], "not a vipnas checkpoint"),
        ({"format": torch.ones(2)}, "not a vipnas checkpoint"),
        ({"format": "vipnas", "version": torch.ones(2)}, "version: expected int, got Tensor"),
        ({"format": "vipnas", "version": True}, "version: expected int, got bool"),
        ({"format": "vipnas", "version": 2}, "version: found 2, allowed is 1"),
        ({"format": "vipnas", "version": 1}, "no file of weights: arch, network missing"),
        ({"format": "vipnas", "version": 1, "arch": "{}", "network": {}}, "family: missing"),
    ],
)
def test_other_files_of_torch_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "network.pt"
    torch.save(content, path)
    with pytest.raises(ValueError, match=f"network.pt: {message}"):
        load_network(path)


def test_a_truncated_file_is_one_line_wherever_it_ends(saved: Path) -> None:
    whole = saved.read_bytes()
    rng = random.Random(0)
    for length in [0, 1, 2, 100, len(whole) - 1, *(rng.randrange(len(whole)) for _ in range(20))]:
        saved.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="network.pt: not a readable checkpoint: .") as error:
            load_file(saved)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"hello\n", b"\x80\x02.", b"{}", b"PK\x03\x04", bytes(1000)])
def test_what_is_no_file_of_torch_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "network.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="network.pt: not a") as error:
        load_network(path)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="network.pt: no such checkpoint"):
        load_file(tmp_path / "network.pt")


def test_saving_twice_gives_the_same_bytes(small_space: SearchSpace, tmp_path: Path) -> None:
    network = supernet_of(small_space)
    save_network(tmp_path / "a.pt", network)
    save_network(tmp_path / "b.pt", network)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()
    assert io.BytesIO((tmp_path / "a.pt").read_bytes()).read(2) == b"PK"
