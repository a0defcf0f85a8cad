from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from vipnas.threads import allowed_cores, cgroup_quota, usable_cores


def write_tree(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


NONE_V1 = {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}
TWO_V1 = {"cpu/a/cpu.cfs_quota_us": "200000\n", "cpu/a/cpu.cfs_period_us": "100000\n"}


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        ("0::/\n", {}, math.inf),
        ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", {"a/cpu.max": "200000 100000\n", "a/b/cpu.max": "max 100000\n"}, 2.0),
        ("0::/a/b\n", {"a/cpu.max": "400000 100000\n", "a/b/cpu.max": "50000 100000\n"}, 0.5),
        # In a container, whose own group is mounted as the root.
        ("0::/../../docker/1\n", {"cpu.max": "200000 100000\n"}, 2.0),
        ("0::/docker/1\n", {"cpu.max": "300000 100000\n"}, 3.0),
        ("4:memory:/a\n3:cpu,cpuacct:/a\n", {**NONE_V1, **TWO_V1}, 2.0),
        ("3:cpu,cpuacct:/\n", NONE_V1, math.inf),
        ("3:cpuset:/a\n", TWO_V1, math.inf),
        ("1:name=systemd:/a:b\n0::/\n", {"unified/cpu.max": "250000 100000\n"}, 2.5),
    ],
)
def test_the_quota_is_the_smallest_of_the_cgroup_and_those_above(
    own: str, files: dict[str, str], quota: float, tmp_path: Path
) -> None:
    write_tree(tmp_path, {f"fs/{name}": content for name, content in files.items()})
    write_tree(tmp_path, {"own": own})
    assert cgroup_quota(tmp_path / "fs", tmp_path / "own") == quota


def test_without_cgroups_there_is_no_quota(tmp_path: Path) -> None:
    assert cgroup_quota(tmp_path / "fs", tmp_path / "own") == math.inf


@pytest.mark.parametrize(
    ("cores", "quota", "usable"),
    [(64, "200000 100000", 2), (64, "max 100000", 64), (2, "800000 100000", 2), (8, "9 10", 1)],
)
def test_usable_are_the_allowed_cores_within_the_quota(
    cores: int, quota: str, usable: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tree(tmp_path, {"fs/cpu.max": quota, "own": "0::/\n"})
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    assert usable_cores(tmp_path / "fs", tmp_path / "own") == usable


def test_without_affinity_all_cores_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    assert allowed_cores() == {0, 1, 2}
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert allowed_cores() == {0}
