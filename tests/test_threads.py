from __future__ import annotations

import math
import os
import re
from pathlib import Path

import pytest

from vipnas.threads import (
    Moment,
    Timed,
    allowed_cores,
    cgroup_quota,
    choose_threads,
    likely_cause,
    most_threads,
    time_threads,
    usable_cores,
    waited_seconds,
)


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


@pytest.mark.parametrize(
    ("environment", "most"),
    [
        ({}, 6),
        ({"OMP_NUM_THREADS": "2"}, 2),
        ({"OMP_NUM_THREADS": " 4,2 "}, 4),
        ({"OMP_NUM_THREADS": "64"}, 6),
        ({"OMP_NUM_THREADS": ""}, 6),
        ({"OMP_NUM_THREADS": "0"}, 6),
        ({"OMP_NUM_THREADS": "many"}, 6),
        ({"LOCAL_WORLD_SIZE": "2"}, 3),
        ({"LOCAL_WORLD_SIZE": "8"}, 1),
    ],
)
def test_no_more_than_the_process_may_use(
    environment: dict[str, str], most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tree(tmp_path, {"fs/cpu.max": "600000 100000", "own": "0::/\n"})
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(64)), raising=False)
    assert most_threads(environment, tmp_path / "fs", tmp_path / "own") == most


@pytest.mark.parametrize(
    ("seconds", "choice"),
    [
        ({1: 0.065, 2: 0.052}, 1),  # the quickstart on a quiet machine
        ({1: 0.063, 2: 2.1}, 1),  # and beside a busy process
        ({1: 2.0, 2: 1.1}, 2),
        ({1: 2.0, 2: 1.5}, 1),  # three quarters of the best rate
        ({1: 2.0, 2: 1.4999}, 2),
        ({1: 8.0, 2: 4.0, 4: 2.5, 6: 1.8}, 6),
        ({1: 8.0, 2: 4.0, 4: 2.5, 6: 2.4}, 4),
        ({1: 1.0}, 1),
    ],
)
def test_the_fewest_threads_are_chosen_that_come_near_the_best(
    seconds: dict[int, float], choice: int
) -> None:
    timed = time_threads(seconds.__getitem__, max(seconds))
    assert timed.seconds == seconds
    assert timed.choice == choice


def test_what_was_chosen_before_is_kept_and_the_reason_said() -> None:
    timed = Timed({1: 0.065, 2: 0.0521})
    chosen = choose_threads(None, None, 2, lambda: timed)
    assert str(chosen) == "1 thread (a step takes 65 ms with 1, 52.1 ms with 2)"
    assert choose_threads(2, None, 1, lambda: timed) == (2, "as before it was interrupted")
    assert choose_threads(2, 1, 1, None).number == 2  # settings are checked elsewhere
    assert str(choose_threads(None, 3, 2, None)) == "3 threads (compute.threads)"
    assert choose_threads(None, None, 1, lambda: Timed({})).number == 1  # nothing to time
    assert choose_threads(None, None, 4, None) == (4, "all that the process may use")


def test_waiting_is_added_up_over_the_threads(tmp_path: Path) -> None:
    """Nanoseconds computed, nanoseconds waited, number of times."""
    write_tree(tmp_path, {"1/schedstat": "5 1500000000 3\n", "2/schedstat": "9 500000000 1\n"})
    assert waited_seconds(tmp_path) == 2.0
    assert waited_seconds(tmp_path / "none") == 0.0


@pytest.mark.parametrize(
    ("computed", "waited", "cause"),
    [
        (9.0, 8.0, "other processes compute on the same cores: .* 0.8 s in each second"),
        (2.0, 0.1, "it computed 20% of the time: it waits for data"),
        (9.9, 0.1, "its cores are slower than before"),
    ],
)
def test_the_likely_cause_is_named(computed: float, waited: float, cause: str) -> None:
    spent = Moment(110.0, computed + 1, waited + 2).since(Moment(100.0, 1.0, 2.0))
    assert re.match(cause, likely_cause(spent))
