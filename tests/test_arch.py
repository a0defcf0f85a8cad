"""An architecture as a value: comparable, hashable, in and out of JSON, never impossible."""

from __future__ import annotations

import json
import random
from dataclasses import FrozenInstanceError, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from errors_fixture import refused

from vipnas.arch import io as arch_io
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
    assert document["version"] == 2
    assert document["found"] == {"score": 0.5, "space": "tiny"}


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"stages": ()}, ("stages", "one stage or more", "none")),
        ({"stem": replace(STEM, kernel_size=4)}, ("stem.kernel_size", "an odd number", "4")),
        ({"stem": replace(STEM, width=0)}, ("stem.width", "a whole number from 1 to 65536", "0")),
        ({"num_keypoints": 0}, ("num_keypoints", "a whole number from 1", "0")),
        ({"stages": (STAGE, replace(STAGE, depth=0))}, ("stages[1].depth", "from 1", "0")),
        ({"stages": (replace(STAGE, kernel_size=6),)}, ("stages[0].kernel_size", "odd", "6")),
        ({"stages": (replace(STAGE, kernel_size=-1),)}, ("stages[0].kernel_size", "odd", "-1")),
        ({"stages": (replace(STAGE, groups=3),)}, ("stages[0].groups", "of 16 channels", "3")),
        ({"stages": (replace(STAGE, groups=0),)}, ("stages[0].groups", "from 1", "0")),
        ({"head": (replace(DECONV, kernel_size=3),)}, ("head[0].kernel_size", "2 or 4", "3")),
        ({"head": (DeconvArch(32, 4, 32),)}, ("head[0].groups", "divisor of 16 channels", "32")),
        ({"head": (DeconvArch(24, 4, 16),)}, ("head[0].groups", "divisor of 24 channels", "16")),
        ({"input_hw": (64, 50)}, ("input_hw", "multiples of 8, the total stride", "[64, 50]")),
        ({"input_hw": (0, 48)}, ("input_hw", "multiples of 8", "[0, 48]")),
    ],
)
def test_an_impossible_arch_cannot_be_made(change: dict[str, Any], fields: tuple[str, ...]) -> None:
    with refused(*fields):
        replace(ARCH, **change)


def test_without_expansion_the_groups_of_an_inverted_residual_divide_its_input_too() -> None:
    stage = StageArch(12, 1, 3, 3, True, 1, 1, "relu")
    with refused("stages[0].groups", "a divisor of 8 channels", "3"):
        Arch("inverted_residual", (32, 32), STEM, (stage,), (), 17)
    Arch("inverted_residual", (32, 32), STEM, (replace(stage, expand_ratio=2),), (), 17)
    Arch("residual", (32, 32), STEM, (stage,), (), 17)


def spoilt(**changes: Any) -> str:
    return json.dumps({"version": 1, "arch": {**plain(), **changes}})


@pytest.mark.parametrize(
    ("content", "fields"),
    [
        ("{", ("", "valid JSON")),
        ("[1]", ("", "the keys version and arch", "[1]")),
        ('{"version": 1}', ("", "the keys version and arch", "{'version': 1}")),
        (json.dumps({"version": 3, "arch": {}}), (": version", "2 or lower", "3")),
        (json.dumps({"arch": {}}), (": version", "a whole number from 1", "None")),
        (json.dumps({"version": 1, "arch": 3}), (": arch", "an object", "3")),
        (spoilt(colour="red"), (": arch", "one of the keys family", "'colour'")),
        (spoilt(famly="residual"), (": arch", "", "'famly'", "mean 'family'?")),
        (spoilt(family="dense"), (": arch: family", "one of inverted_residual, resid", "'dense'")),
        (spoilt(num_keypoints="17"), (": arch: num_keypoints", "a valid integer", "'17'")),
        (spoilt(num_keypoints=17.5), (": arch: num_keypoints", "a valid integer", "17.5")),
        (spoilt(num_keypoints=True), (": arch: num_keypoints", "a valid integer", "True")),
        (spoilt(input_hw=[64]), (": arch: input_hw[1]", "a value", "none")),
        (spoilt(input_hw=[64, 50]), (": arch: input_hw", "multiples of 8", "[64, 50]")),
        (
            spoilt(stem={"width": 8, "kernel_size": 3, "activation": "relu"}),
            (": arch: stem.max_pool", "a value", "none"),
        ),
        (
            spoilt(head=[{"width": 16, "kernel": 4, "groups": 1}]),
            (": arch: head[0]", "the keys groups, kernel_size, width", "'kernel'"),
        ),
    ],
)
def test_a_spoilt_file_is_one_line(tmp_path: Path, content: str, fields: tuple[str, ...]) -> None:
    path = tmp_path / "best.json"
    path.write_text(content)
    with refused(f"{path}{fields[0]}", *fields[1:]):
        read_arch(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "best.json"
    with refused(str(path), "a file", "no such file"):
        read_arch(path)


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"stem": {"width": 10**9}}, ("stem.width", "from 1 to 65536", "1000000000")),
        ({"stem": {"kernel_size": 10**9 + 1}}, ("stem.kernel_size", "from 1 to 255", "1000000001")),
        ({"stages": {"width": 10**30}}, ("stages[0].width", "from 1 to 65536")),
        ({"stages": {"depth": 10**7}}, ("stages[0].depth", "from 1 to 1024")),
        ({"stages": {"kernel_size": 10**8 + 1}}, ("stages[0].kernel_size", "from 1 to 255")),
        ({"stages": {"expand_ratio": 1000}}, ("stages[0].expand_ratio", "from 1 to 64")),
        ({"stages": {"stride": 10**9}}, ("stages[0].stride", "from 1 to 64")),
        ({"head": {"width": 10**9}}, ("head[0].width", "from 1 to 65536")),
        ({"num_keypoints": 10**9}, ("num_keypoints", "from 1 to 65536")),
        ({"input_hw": [1 << 20, 1 << 20]}, ("input_hw", "sides up to 16384 px")),
        ({"stages": {"width": 60000}}, ("", "up to 1,000,000,000 weights", "32,4")),
    ],
)
def test_what_no_machine_can_build_is_one_line(
    change: dict[str, Any], fields: tuple[str, ...]
) -> None:
    document = plain()
    for key, value in change.items():
        part = document[key][0] if key in ("stages", "head") else document[key]
        if key in ("input_hw", "num_keypoints"):
            document[key] = value
        else:
            part.update(value)
    place, *others = fields
    with refused(f"file: {place}" if place else "file", *others):
        arch_from_json(json.dumps(document), "file")


def test_the_bound_on_weights_is_below_what_is_built(space: SearchSpace) -> None:
    for arch in (space.min_arch(), space.max_arch()):
        built = sum(parameter.numel() for parameter in PoseNet(arch).parameters())
        assert 0 < arch._least_weights() <= built


@dataclass(frozen=True)
class LaterStage(StageArch):
    dilation: int = 1


@dataclass(frozen=True)
class LaterArch(Arch):
    stages: tuple[LaterStage, ...]


def test_a_file_of_before_a_field_came_has_its_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    write_arch(old, ARCH)
    monkeypatch.setattr(arch_io, "Arch", LaterArch)
    monkeypatch.setattr(arch_io, "ARCH_VERSION", 3)
    arch = read_arch(old)
    assert [stage.dilation for stage in arch.stages] == [1] * len(ARCH.stages)  # type: ignore[attr-defined]
    write_arch(new, arch)
    assert json.loads(new.read_text())["version"] == 3 and read_arch(new) == arch
    # What depends on an arch of before is the same.
    assert to_plain(arch, defaults=False) == to_plain(ARCH, defaults=False)
