"""Timing by a clock that the test winds, and refusals."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from networks_fixture import of_one_stage
from torch import Tensor, nn

from tools.benchmarks.gemm_reference import gemm_runs
from vipnas.latency import cores, measure
from vipnas.latency import interleaved as turns
from vipnas.latency.cores import least_busy_cores
from vipnas.latency.interleaved import (
    TooNoisy,
    interleaved,
    interleaved_with_anchor,
)
from vipnas.latency.measure import Key, fill_for_timing, key_of_this_machine, pinned
from vipnas.models.posenet import PoseNet
from vipnas.runtimes.runtime import FileFormat, RunSettings, Runtime, Session, WriteSettings
from vipnas.runtimes.table import RUNTIMES
from vipnas.space.image import SearchSpace
from vipnas.threads import waited_seconds


class Machine:
    """Runs that take as long as they are told, and a record of who ran."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ran: list[str] = []

    def run(self, name: str, seconds: Iterator[float]) -> Callable[[], None]:
        def run() -> None:
            self.ran.append(name)
            self.now += next(seconds)

        return run


def constant(seconds: float) -> Iterator[float]:
    while True:
        yield seconds


@pytest.fixture(autouse=True)
def nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What else runs on the machine of the tests must not count; a test may say that it does."""
    monkeypatch.setattr(turns, "waited_seconds", lambda: 0.0)
    monkeypatch.setattr(cores, "time", SimpleNamespace(sleep=lambda seconds: None))


@pytest.fixture
def key() -> Key:
    return key_of_this_machine("torch", (64, 48))


def test_networks_are_interleaved_and_get_their_own_median() -> None:
    machine = Machine()
    runs = [machine.run("a", constant(0.010)), machine.run("b", constant(0.030))]
    first, second = interleaved(runs, rounds=3, clock=lambda: machine.now)
    assert (first.median_ms, first.num_samples) == (pytest.approx(10.0), 6)
    assert (second.median_ms, second.spread) == (pytest.approx(30.0), pytest.approx(0.0, abs=1e-9))
    # Two runs each to warm up, then turns of one that only warms and two that count.
    assert "".join(machine.ran) == "aabb" + "aaabbb" * 3


def test_short_runs_are_timed_several_at_a_time() -> None:
    machine = Machine()
    (latency,) = interleaved(
        [machine.run("a", constant(0.0001))], rounds=2, clock=lambda: machine.now
    )
    assert latency.median_ms == pytest.approx(0.1)
    # 5 ms of 50 runs warm up, 2 ms make 20 runs a sample: 2 at the start, then twice 50 + 2 x 20.
    assert len(machine.ran) == 2 + 2 * (50 + 2 * 20)


def test_a_small_network_is_warm_again_when_its_sample_starts() -> None:
    """Each of its runs after another's takes longer, the less the more of them there were."""
    machine = Machine()

    def cold_after_others() -> Iterator[float]:
        since = 0
        while True:
            since = 0 if machine.ran[-2:-1] == ["large"] else since + 1
            yield 0.001 if since >= 4 else 0.00125

    runs = [machine.run("large", constant(0.030)), machine.run("small", cold_after_others())]
    _, small = interleaved(runs, max_spread=0.5, rounds=3, clock=lambda: machine.now)
    assert small.median_ms == pytest.approx(1.0)


def test_only_what_was_noisy_is_timed_again() -> None:
    machine = Machine()
    shaken = itertools.chain([0.01, 0.01], [0.01, 0.01, 0.02] * 3, constant(0.01))
    runs = [machine.run("a", constant(0.01)), machine.run("b", shaken)]
    _, second = interleaved(runs, rounds=3, clock=lambda: machine.now)
    assert "".join(machine.ran) == "aabb" + "aaabbb" * 3 + "bbb" * 3
    assert (second.median_ms, second.num_samples) == (pytest.approx(10.0), 6)


def test_what_is_timed_again_is_timed_beside_the_anchor() -> None:
    """The machine slows down to a half when the noisy run is timed again."""
    machine = Machine()
    anchor = itertools.chain([0.01] * 11, constant(0.02))
    steady = machine.run("b", constant(0.03))
    shaken = machine.run("c", itertools.chain([0.01] * 2, [0.01, 0.01, 0.02] * 3, constant(0.02)))
    first, second = interleaved_with_anchor(
        machine.run("a", anchor), [steady, shaken], 0.1, 3, lambda: machine.now
    )
    assert "".join(machine.ran) == "aabbcc" + "aaabbbccc" * 3 + "aaaccc" * 3
    assert (first.latency.median_ms, first.anchor_ms) == (pytest.approx(30), pytest.approx(10))
    assert (second.latency.median_ms, second.anchor_ms) == (pytest.approx(20), pytest.approx(20))


def test_all_are_timed_again_where_the_anchor_was_noisy() -> None:
    machine = Machine()
    anchor = itertools.chain([0.01] * 2, [0.01, 0.01, 0.02] * 3, constant(0.01))
    other = itertools.chain([0.03] * 11, constant(0.04))
    runs = [machine.run("b", other)]
    (found,) = interleaved_with_anchor(machine.run("a", anchor), runs, 0.1, 3, lambda: machine.now)
    assert "".join(machine.ran) == "aabb" + "aaabbb" * 6
    assert (found.latency.median_ms, found.anchor_ms) == (pytest.approx(40), pytest.approx(10))


def test_what_stays_noisy_is_refused() -> None:
    machine = Machine()
    runs = [machine.run("a", itertools.cycle([0.01, 0.02, 0.01, 0.04, 0.03]))]
    with pytest.raises(TooNoisy, match="machine: expected a spread of at most 10%, got "):
        interleaved(runs, rounds=3, clock=lambda: machine.now)


def samples(*milliseconds: float, waited: float = 0.0) -> list[turns.Sample]:
    return [turns.Sample(value / 1e3, waited) for value in milliseconds]


def test_median_and_spread_by_hand() -> None:
    found = turns._latency(samples(10, 11, 12, 13, 14), max_spread=1.0)
    # The quartiles of five values are the second and the fourth.
    assert found.median_ms == pytest.approx(12)
    assert found.spread == pytest.approx((13 - 11) / 12)


def test_a_noisy_machine_is_refused_in_one_line() -> None:
    noisy = samples(10, 14, 10, 14, 10, 14)
    with pytest.raises(TooNoisy, match="machine: .* at most 10%, got 33% over 6 .*noisy") as caught:
        turns._latency(noisy, max_spread=0.1)
    assert "\n" not in str(caught.value)
    assert turns._latency(noisy, max_spread=0.4).median_ms == pytest.approx(12)


def test_runs_that_waited_for_a_core_do_not_count() -> None:
    mixed = samples(10, 10, 10) + samples(90, 90, waited=0.03)
    found = turns._latency(mixed, max_spread=0.1)
    assert (found.median_ms, found.num_samples) == (pytest.approx(10), 3)


def test_a_busy_machine_is_refused_though_its_runs_agree() -> None:
    """Where another process has half of the core all the time, all runs are as slow."""
    busy = samples(10, 10) + samples(20, 20, 20, waited=0.5)
    with pytest.raises(TooNoisy, match="at most 50% .* got 3 of 5"):
        turns._latency(busy, max_spread=0.1)


def test_waiting_is_what_the_system_counts_for_our_threads() -> None:
    before = waited_seconds()
    assert 0 <= before <= waited_seconds()


def test_pinned_keeps_to_its_cores_and_gives_all_back(key: Key) -> None:
    allowed, threads = os.sched_getaffinity(0), torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt), pinned(key):
        assert len(os.sched_getaffinity(0)) == 1
        assert torch.get_num_threads() == 1
        raise KeyboardInterrupt
    assert os.sched_getaffinity(0) == allowed
    assert torch.get_num_threads() == threads


def test_the_least_busy_cores_are_those_that_were_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([{0: 100, 1: 500, 2: 0}, {0: 190, 1: 505, 2: 60}])
    monkeypatch.setattr(cores, "_busy_ticks", lambda: next(readings))
    assert least_busy_cores({0, 1, 2}, 2, seconds=0.0) == {1, 2}


def test_busy_ticks_of_every_core_are_known_here() -> None:
    ticks = cores._busy_ticks()
    assert os.sched_getaffinity(0) <= ticks.keys()
    assert all(count > 0 for count in ticks.values())


def test_more_threads_than_cores_are_refused() -> None:
    count = len(os.sched_getaffinity(0))
    with pytest.raises(ValueError, match=f"threads: expected 1 to {count}, .* got {count + 1}"):
        key_of_this_machine("torch", (64, 48), threads=count + 1)


def test_an_arch_of_another_input_size_is_refused(key: Key, tiny_space) -> None:  # type: ignore[no-untyped-def]
    arch = tiny_space.with_facts(input_hw=(32, 32)).min_arch()
    with pytest.raises(ValueError, match=r"input_hw: expected \(64, 48\), got \(32, 32\)"):
        measure.measure_archs([arch], key)


@pytest.mark.parametrize(
    ("runtime", "precision", "least", "most"),
    [
        ("onnxruntime", "fp16", 1e-5, 1e-2),
        ("onnxruntime", "int8", 1e-3, 0.3),
        ("openvino", "bf16", 0.0, 0.1),  # exact where the processor has none
        ("openvino", "int8", 1e-3, 0.3),
        ("torch", "bf16", 1e-4, 0.1),
    ],
)
def test_what_is_timed_computes_in_the_precision_of_the_key(
    runtime: str, precision: str, least: float, most: float, tiny_space: SearchSpace
) -> None:
    """As far from float32 as that rounds, and no further."""
    pytest.importorskip(runtime)
    images = np.random.default_rng(0).standard_normal((1, 3, 64, 48), dtype=np.float32)
    torch.manual_seed(0)
    network = PoseNet(of_one_stage(tiny_space.max_arch())).eval().requires_grad_(False)
    fill_for_timing(network)
    wanted = network(torch.from_numpy(images)).numpy()
    key = key_of_this_machine(runtime, (64, 48), 1, 1, precision)
    session = measure.quick_session(network, images, key)
    difference = np.abs(session({"images": images}) - wanted).max() / np.abs(wanted).max()
    assert least <= difference <= most


def test_the_yardstick_is_taken_in_every_library_at_hand() -> None:
    runs = gemm_runs(side=16, threads=1)
    libraries = [row for row in RUNTIMES.values() if row.packages]
    installed = {row.name for row in libraries if all(map(find_spec, row.packages))}
    assert set(runs) == {"torch"} | installed
    for run in runs.values():
        run()


def test_a_single_network_is_measured_as_shipped_and_many_the_quick_way(
    tiny_space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is opened for the key's batch; it stores what the format can."""
    done: list[object] = []

    def session(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        return inputs["images"]

    def load(module: nn.Module, inputs: Mapping[str, Tensor], settings: RunSettings) -> Session:
        done.append(("load", inputs["images"].shape[0], settings))
        return session

    def write(
        module: nn.Module, inputs: Mapping[str, Tensor], path: Path, settings: WriteSettings
    ) -> None:
        done.append(("write", inputs["images"].shape[0], path.suffix, settings.precision))

    def open_file(path: Path, settings: RunSettings) -> tuple[Session, dict[str, str]]:
        done.append(("open", settings))
        return session, {}

    file = FileFormat("fake", ".fake", ("fp32",), write, open_file)
    fake = Runtime("fake", ("fp32", "bf16"), lambda: "1", load, file)
    monkeypatch.setattr(measure, "RUNTIMES", {"fake": fake})
    key = Key("here", "fake", "1", 1, 1, "bf16", (64, 48))
    arch, settings = tiny_space.min_arch(), RunSettings(1, "bf16", "cpu", 1)
    monkeypatch.setattr(measure, "ROUNDS", 1)
    measure.measure_arch(arch, key, max_spread=1000.0)
    assert done == [("write", 2, ".fake", "fp32"), ("open", settings)]
    done.clear()
    with pinned(key):
        measure.measure_archs([arch, arch], key, max_spread=1000.0, rounds=1)
    assert done == [("load", 1, settings)] * 2
