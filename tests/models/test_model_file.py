"""A model file holds all that is needed to run it, and a bad one is one line."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from model_fixture import header_of_arch, header_of_space, save_network, save_supernet
from networks_fixture import randomise_batch_norm
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vipnas.arch.clip import FollowUp, Fusion, VideoArch
from vipnas.models.clipnet import FollowUpNet, build_video_net
from vipnas.models.file import (
    read_clip,
    read_clip_supernet,
    read_header,
    read_model,
    read_network,
    write_model,
)
from vipnas.models.header import MAX_HEADER_BYTES, ModelHeader, header_from_json
from vipnas.models.posenet import PoseNet
from vipnas.space.clip import VideoSpace
from vipnas.space.image import SearchSpace

ARTEFACTS = Path(__file__).resolve().parent.parent / "artefacts"


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


@pytest.fixture
def saved(small_space: SearchSpace, tmp_path: Path) -> Path:
    return save_supernet(tmp_path / "supernet.safetensors", small_space)


def test_a_network_and_back(small_space: SearchSpace, tmp_path: Path) -> None:
    network = PoseNet(small_space.min_arch())
    randomise_batch_norm(network, seed=0)
    path = save_network(tmp_path / "network.safetensors", network)
    again, header = read_network(path)
    assert header == read_header(path) == header_of_arch(network.arch)
    assert same(network, again) and not again.training
    images = torch.randn(1, 3, *small_space.input_hw, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again(images), network.eval()(images))


def test_a_supernet_says_its_space(small_space: SearchSpace, saved: Path) -> None:
    header = read_header(saved)
    assert header == header_of_space(small_space)
    assert header.search_space("here") == small_space
    with pytest.raises(ValueError, match="here: expected a supernet, got a file of kind image"):
        header_of_arch(small_space.min_arch()).search_space("here")


def clip_header(arch: VideoArch) -> ModelHeader:
    header = header_of_arch(arch.key_frame)
    return replace(header, kind="clip", arch=None, clip=arch)


def test_the_networks_of_a_clip_and_back(tiny_space: SearchSpace, tmp_path: Path) -> None:
    small, large = tiny_space.min_arch(), tiny_space.max_arch()
    members = (FollowUp(small, Fusion(1, "mul")), None, FollowUp(small, None))
    network = build_video_net(VideoArch(large, members)).eval()
    randomise_batch_norm(network, seed=0)
    path = tmp_path / "clip.safetensors"
    write_model(path, network, clip_header(network.arch))
    again, header = read_clip(path)
    assert header.clip == again.arch == network.arch
    assert same(network, again)
    names = load_file(path).keys()
    assert {name.split(".")[0] for name in names} == {"key_frame", "follow_up"}
    assert {name.split(".")[1] for name in names if name.startswith("follow")} == {"1", "3"}


def test_what_follow_up_frames_share_is_stored_once(
    tiny_space: SearchSpace, tmp_path: Path
) -> None:
    arch = tiny_space.min_arch()
    network = build_video_net(VideoArch(arch, (FollowUp(arch, None),)))
    randomise_batch_norm(network, seed=0)
    alone, twice = tmp_path / "alone.safetensors", tmp_path / "twice.safetensors"
    write_model(alone, network, clip_header(network.arch))
    repeated = network.repeated(2)
    write_model(twice, repeated, clip_header(repeated.arch))
    assert load_file(twice).keys() == load_file(alone).keys()
    again, _ = read_clip(twice)
    assert same(repeated, again)
    first, second = again.follow_ups[0], again.follow_ups[1]
    assert first is not second


def test_the_supernet_of_clips_and_back(small_space: SearchSpace, tmp_path: Path) -> None:
    fusions = (None, Fusion(1, "add"), Fusion(1, "cat"))
    space = VideoSpace(small_space.min_arch(), small_space, fusions, num_follow_ups=2, warp=True)
    supernet = FollowUpNet(small_space.max_arch(), fusions[1:]).eval()
    header = replace(
        header_of_space(small_space),
        kind="clip_supernet",
        clip=space.max_arch(),
        fusions=fusions,
        warp=True,
    )
    path = tmp_path / "supernet.safetensors"
    write_model(path, supernet, header)
    again, held = read_clip_supernet(path)
    assert same(supernet, again) and again.fusions == fusions[1:]
    assert held.video_space("here") == space
    for read, kind in ((read_network, "clip_supernet"), (read_clip, "clip_supernet")):
        with pytest.raises(ValueError, match=f"supernet.safetensors: expected .* of kind {kind}"):
            read(path)


def test_saving_twice_gives_the_same_bytes(small_space: SearchSpace, tmp_path: Path) -> None:
    first = save_supernet(tmp_path / "a.safetensors", small_space)
    second = save_supernet(tmp_path / "b.safetensors", small_space)
    assert first.read_bytes() == second.read_bytes()


def rewritten(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The file with another header."""
    with safe_open(path, "pt") as file:
        document = json.loads(file.metadata()["vipnas"])
    change(document)
    save_file(load_file(path), path, {"vipnas": json.dumps(document)})
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(format_version="2.0"), r"format_version: expected 1\.x, got 2\.0"),
        (
            lambda d: d.update(format_version="one"),
            r"format_version: expected a version such as 1\.0, got one",
        ),
        (
            lambda d: d.pop("format_version"),
            "format_version: expected a version such as 1.0, got None",
        ),
        (lambda d: d.update(more=1), "expected one of the keys .*, got 'more'"),
        (lambda d: d.update(kind="video"), "kind: expected one of clip, .*, got 'video'"),
        (lambda d: d.pop("skeleton"), "skeleton: expected a value, got none"),
        (lambda d: d.update(codec="other"), "codec: expected one of dark, .*, got 'other'"),
        (lambda d: d.update(space=None), "space: expected a value in a file of kind supernet"),
        (
            lambda d: d["input"].update(hw=[32, 32]),
            r"input.hw: expected \(16, 16\), as in the arch",
        ),
        (
            lambda d: d["input"].update(colour_order="bgr"),
            "input.colour_order: expected one of rgb, got 'bgr'",
        ),
        (lambda d: d["arch"]["stem"].update(width=8), "tensor layers.stem.conv.weight: expected"),
        (lambda d: d["arch"]["stages"][0].update(depth=3), "tensor .*: expected one, got none"),
        (lambda d: d["arch"].update(num_keypoints=16), "skeleton.joints: expected 16"),
        (lambda d: d["skeleton"]["joints"].pop(), "skeleton.joints|sigmas"),
        (lambda d: d.update(sigma_px=-1.0), "sigma_px"),
        (lambda d: d.update(shared={"a": "b"}), "shared: expected none in a file of kind supernet"),
    ],
)
def test_a_header_that_is_wrong_is_one_line(
    saved: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    with pytest.raises(ValueError, match=f"supernet.safetensors: .*{message}") as error:
        read_model(rewritten(saved, change))
    assert "\n" not in str(error.value)


def test_unknown_keys_of_a_newer_minor_version_are_ignored_but_not_in_archs(saved: Path) -> None:
    before = read_header(saved)

    def newer(document: dict[str, Any]) -> None:
        document.update(format_version="1.7", more=1)
        for section in ("input", "provenance", "skeleton"):
            document[section]["more"] = 2

    header = read_header(rewritten(saved, newer))
    assert header == replace(before, format_version="1.7")
    rewritten(saved, lambda document: document["arch"]["stem"].update(more=3))
    with pytest.raises(ValueError, match=r"arch\.stem: expected one of .*, got 'more'"):
        read_header(saved)


@pytest.mark.parametrize("text", ["", "[]", "7", "[" * 100_000, '{"a": ' * 100_000, "\ud800"])
def test_a_header_that_is_none_is_one_line(text: str) -> None:
    with pytest.raises(ValueError, match="^file: ") as error:
        header_from_json(text, "file")
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="expected up to"):
        header_from_json(" " * (MAX_HEADER_BYTES + 1), "file")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("layers.stem.conv.weight"), "conv.weight: expected one, got none"),
        (lambda state: state.update(more=torch.zeros(1)), "tensor more: expected none, got one"),
        (
            lambda state: state.update({"layers.heatmaps.conv.bias": torch.zeros(16)}),
            r"expected \[17\] of float32, got \[16\] of float32",
        ),
        (
            lambda state: state.update({"layers.heatmaps.conv.bias": torch.zeros(17).half()}),
            r"expected \[17\] of float32, got \[17\] of float16",
        ),
    ],
)
def test_tensors_must_be_exactly_those_of_the_header(
    saved: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    header, state = read_header(saved), load_file(saved)
    change(state)
    save_file(state, saved, {"vipnas": header.to_json()})
    with pytest.raises(ValueError, match=f"supernet.safetensors: .*{message}"):
        read_model(saved)


def test_a_truncated_file_is_one_line_wherever_it_ends(saved: Path) -> None:
    whole = saved.read_bytes()
    rng = random.Random(0)
    for length in [0, 1, 8, 100, len(whole) - 1, *(rng.randrange(len(whole)) for _ in range(20))]:
        saved.write_bytes(whole[:length])
        for read in (read_model, read_header):
            with pytest.raises(
                ValueError, match="supernet.safetensors: expected a readable"
            ) as error:
                read(saved)
            assert "\n" not in str(error.value)


def test_other_files_are_one_line(saved: Path, tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, saved)
    with pytest.raises(ValueError, match="expected the metadata key 'vipnas', got none"):
        read_model(saved)
    with pytest.raises(ValueError, match="none.safetensors: expected a file, got no such"):
        read_header(tmp_path / "none.safetensors")


def test_a_header_is_read_without_the_tensors(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.nn.Module.load_state_dict", None)
    monkeypatch.setattr("vipnas.models.file._build", None)
    assert read_header(saved).kind == "supernet"


@pytest.mark.parametrize("path", sorted(ARTEFACTS.glob("*.safetensors")), ids=lambda p: p.stem)
def test_files_of_every_kind_and_format_version_are_read(path: Path) -> None:
    """Written once, by the version of vipnas that brought the format; never written again."""
    network, header = read_model(path)
    assert path.stem == f"{header.kind}_{header.format_version}"
    assert all(torch.isfinite(tensor).all() for tensor in network.state_dict().values())
    if header.space is not None:
        assert header.arch is not None and header.arch in header.search_space(path.name)
    if header.kind == "clip_supernet":
        assert header.clip is not None and header.clip in header.video_space(path.name)


def test_there_is_a_file_of_every_kind() -> None:
    kinds = {path.stem.rpartition("_")[0] for path in ARTEFACTS.glob("*_1.0.safetensors")}
    assert kinds == {"image", "clip", "supernet", "clip_supernet"}
    assert all(path.stat().st_size < 40_000 for path in ARTEFACTS.iterdir())
