"""An architecture as a value: comparable, hashable, in and out of JSON, never impossible."""

from __future__ import annotations

import json
import random
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest

from vipnas.arch.image import Arch, DeconvArch, StageArch, StemArch
from vipnas.arch.io import arch_from_json, read_arch, write_arch
from vipnas.files import to_plain
from vipnas.models.posenet import PoseNet
from vipnas.space.image import SearchSpace

STEM = StemArch(8, 3, "relu", False)
STAGE = StageArch(16, 2, 3, 2, True, 1, 2, "relu")
DECONV = DeconvArch(16, 4, 2)
ARCH = Arch("residual", (64, 48), STEM, (STAGE, STAGE), (DECONV,), 17)


def plain() -> dict[str, Any]:
    document: dict[str, Any] = to_plain(ARCH)
    return document


def test_equal_archs_are_one_key_and_cannot_be_changed() -> None:
    same = Arch("residual", (64, 48), replace(STEM), (replace(STAGE), STAGE), (DECONV,), 17)
    assert {ARCH: 1}[same] == 1
    assert ARCH.to_json() == same.to_json()
    assert replace(ARCH, num_keypoints=16) != ARCH
    with pytest.raises(FrozenInstanceError):
        ARCH.num_keypoints = 3  # type: ignore[misc]


def test_sizes_by_hand() -> None:
    # 2 by the stem, 2 by each of two stages; one deconvolution doubles.
    assert ARCH.total_stride == 8
    assert ARCH.heatmap_hw == (16, 12)
    assert replace(ARCH, stem=replace(STEM, max_pool=True)).total_stride == 16
    assert replace(ARCH, head=()).heatmap_hw == (8, 6)
    assert replace(STAGE, expand_ratio=3).middle_width == 48


def test_json_and_back(space: SearchSpace) -> None:
    rng = random.Random(0)
    archs = [space.sample(rng) for _ in range(20)]
    assert [arch_from_json(arch.to_json(), "test") for arch in archs] == archs
    assert all("\n" not in arch.to_json() for arch in archs)


def test_a_file_and_back(tmp_path: Path) -> None:
    path = tmp_path / "found" / "best.json"
    write_arch(path, ARCH, score=0.5, space="tiny")
    assert read_arch(path) == ARCH
    document = json.loads(path.read_text())
    assert document["version"] == 1
    assert document["found"] == {"score": 0.5, "space": "tiny"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": ()}, "stages: found none, at least one is needed"),
        ({"stem": replace(STEM, kernel_size=4)}, "stem.kernel_size: found 4, allowed are odd"),
        ({"stem": replace(STEM, width=0)}, "stem.width: found 0, allowed are whole numbers from 1"),
        ({"num_keypoints": 0}, "num_keypoints: found 0, allowed"),
        ({"stages": (STAGE, replace(STAGE, depth=0))}, r"stages\[1\].depth: found 0"),
        ({"stages": (replace(STAGE, kernel_size=6),)}, r"stages\[0\].kernel_size: found 6"),
        ({"stages": (replace(STAGE, kernel_size=-1),)}, r"stages\[0\].kernel_size: found -1"),
        (
            {"stages": (replace(STAGE, groups=3),)},
            r"stages\[0\].groups: found 3, which does not divide 16 channels",
        ),
        ({"stages": (replace(STAGE, groups=0),)}, r"stages\[0\].groups: found 0"),
        ({"head": (replace(DECONV, kernel_size=3),)}, r"head\[0\].kernel_size: found 3, allowed"),
        ({"head": (DeconvArch(32, 4, 32),)}, r"head\[0\].groups: found 32, .* divide 16 channels"),
        ({"head": (DeconvArch(24, 4, 16),)}, r"head\[0\].groups: found 16, .* divide 24 channels"),
        ({"input_hw": (64, 50)}, r"input_hw: found \[64, 50\], allowed are multiples of 8"),
        ({"input_hw": (0, 48)}, r"input_hw: found \[0, 48\]"),
    ],
)
def test_an_impossible_arch_cannot_be_made(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(ARCH, **change)


def test_without_expansion_the_groups_of_an_inverted_residual_divide_its_input_too() -> None:
    stage = StageArch(12, 1, 3, 3, True, 1, 1, "relu")
    with pytest.raises(ValueError, match=r"stages\[0\].groups: found 3, .* divide 8 channels"):
        Arch("inverted_residual", (32, 32), STEM, (stage,), (), 17)
    Arch("inverted_residual", (32, 32), STEM, (replace(stage, expand_ratio=2),), (), 17)
    Arch("residual", (32, 32), STEM, (stage,), (), 17)


def spoilt(**changes: Any) -> str:
    return json.dumps({"version": 1, "arch": {**plain(), **changes}})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[1]", "not an arch file: it must hold 'version' and 'arch'"),
        ('{"version": 1}', "not an arch file"),
        (json.dumps({"version": 2, "arch": {}}), "version: found 2, allowed is 1"),
        (json.dumps({"arch": {}}), "version: found None, allowed is 1"),
        (json.dumps({"version": 1, "arch": 3}), "arch: found 3, which"),
        (spoilt(colour="red"), "arch: colour: unknown key; known: family"),
        (spoilt(famly="residual"), "arch: famly: unknown key; did you mean 'family'"),
        (spoilt(family="dense"), "arch: family: found 'dense', which should be 'residual' or"),
        (spoilt(num_keypoints="17"), "arch: num_keypoints: found '17', which .* integer"),
        (spoilt(num_keypoints=17.5), "arch: num_keypoints: found 17.5"),
        (spoilt(num_keypoints=True), "arch: num_keypoints: found True"),
        (spoilt(input_hw=[64]), r"arch: input_hw\[1\]: missing"),
        (spoilt(input_hw=[64, 50]), r"arch: input_hw: found \[64, 50\], allowed are multiples"),
        (
            spoilt(stem={"width": 8, "kernel_size": 3, "activation": "relu"}),
            "arch: stem.max_pool: missing; it must be given",
        ),
        (
            spoilt(head=[{"width": 16, "kernel": 4, "groups": 1}]),
            r"arch: head\[0\].kernel: unknown",
        ),
    ],
)
def test_a_spoilt_file_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "best.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        read_arch(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"best.json: no such file"):
        read_arch(tmp_path / "best.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"stem": {"width": 10**9}},
            "stem.width: expected whole numbers from 1 to 65536, got 1",
        ),
        ({"stem": {"kernel_size": 10**9 + 1}}, "stem.kernel_size: expected whole numbers from 1"),
        (
            {"stages": {"width": 10**30}},
            r"stages\[0\].width: expected whole numbers from 1 to 65536",
        ),
        ({"stages": {"depth": 10**7}}, r"stages\[0\].depth: expected whole numbers from 1 to 1024"),
        ({"stages": {"kernel_size": 10**8 + 1}}, r"stages\[0\].kernel_size: expected whole number"),
        ({"stages": {"expand_ratio": 1000}}, r"stages\[0\].expand_ratio: expected whole numbers f"),
        ({"stages": {"stride": 10**9}}, r"stages\[0\].stride: expected whole numbers from 1 to 64"),
        ({"head": {"width": 10**9}}, r"head\[0\].width: expected whole numbers from 1 to 65536"),
        ({"num_keypoints": 10**9}, "num_keypoints: expected whole numbers from 1 to 65536, got 10"),
        ({"input_hw": [1 << 20, 1 << 20]}, "input_hw: expected sides up to 16384 px, got "),
        ({"stages": {"width": 60000}}, "arch: expected up to 1,000,000,000 weights, got 32,4"),
    ],
)
def test_what_no_machine_can_build_is_one_line(change: dict[str, Any], message: str) -> None:
    document = plain()
    for key, value in change.items():
        part = document[key][0] if key in ("stages", "head") else document[key]
        if key in ("input_hw", "num_keypoints"):
            document[key] = value
        else:
            part.update(value)
    with pytest.raises(ValueError, match=f"^file: {message}") as error:
        arch_from_json(json.dumps(document), "file")
    assert "\n" not in str(error.value)


def test_the_bound_on_weights_is_below_what_is_built(space: SearchSpace) -> None:
    for arch in (space.min_arch(), space.max_arch()):
        built = sum(parameter.numel() for parameter in PoseNet(arch).parameters())
        assert 0 < arch._least_weights() <= built
