from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from training_fixture import batch_of, codec_of, sampler_of, supernet_of

from vipnas import threads
from vipnas.space.image import SearchSpace
from vipnas.threads import Moment
from vipnas.training.randomness import random_state
from vipnas.training.step import ImageTask, supernet_backward
from vipnas.training.step_time import WINDOW, SlowSteps, time_step, undone


def flat(state: Any) -> list[Any]:
    if isinstance(state, dict):
        state = list(state.values())
    return [one for part in state for one in flat(part)] if isinstance(state, list) else [state]


def test_timed_steps_leave_no_trace(
    small_space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads are only asked for: beside other processes they would take a minute."""
    asked: list[int] = []
    monkeypatch.setattr("torch.set_num_threads", asked.append)
    network = supernet_of(small_space).train()
    backward = supernet_backward(ImageTask(network, codec_of(small_space)), sampler_of(small_space))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    random_before = flat(random_state())
    moved: list[bool] = []

    def step() -> None:
        backward(0, batch_of(small_space, 0))
        torch.rand(3)
        after = network.state_dict()
        moved.append(any(not torch.equal(before[name], after[name]) for name in before))

    with undone(network):
        timed = time_step(step, most=2)
    assert list(timed.seconds) == [1, 2] and min(timed.seconds.values()) > 0
    assert all(moved)  # the statistics of batch norm, in between
    assert all(torch.equal(before[name], one) for name, one in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    for one, other in zip(flat(random_state()), random_before, strict=True):
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
    assert asked == [1, 2, torch.get_num_threads()]


@pytest.mark.parametrize(
    ("seconds", "steps"),
    [
        ({1: 0.01, 2: 0.02, 4: 0.031}, {1: 6, 2: 6, 4: 2}),  # three times as long: hopeless
        ({1: 1.0, 2: 0.7, 4: 0.6}, {1: 4, 2: 6, 4: 6}),  # three seconds are enough
        ({1: 9.0, 2: 5.0, 4: 40.0}, {1: 2, 2: 2, 4: 2}),
    ],
)
def test_no_more_steps_are_timed_than_it_takes(
    seconds: dict[int, float], steps: dict[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    now, threads, taken = 0.0, 1, dict.fromkeys(seconds, 0)

    def set_number(number: int) -> None:
        nonlocal threads
        threads = number

    def step() -> None:
        nonlocal now
        now += seconds[threads]
        taken[threads] += 1

    monkeypatch.setattr("torch.set_num_threads", set_number)
    monkeypatch.setattr("time.perf_counter", lambda: now)
    assert time_step(step, most=4).seconds == pytest.approx(seconds)
    assert taken == steps


@pytest.fixture
def run_steps(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let a callback see steps of so many seconds, all of them computed."""
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    monkeypatch.setattr("time.process_time", lambda: now)
    monkeypatch.setattr(threads, "waited_seconds", lambda: now if now > 400 else 0.0)

    class Training:
        step = 0

    def run(callback: SlowSteps, count: int, seconds: float) -> None:
        nonlocal now
        for _ in range(count):
            now += seconds
            Training.step += 1
            callback.after_step(Training, None)  # type: ignore[arg-type]

    return run


def test_steps_three_times_as_long_are_a_warning_once(
    run_steps: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    callback = SlowSteps("retrain")
    with caplog.at_level(logging.WARNING):
        run_steps(callback, 2 * WINDOW, 0.1)
        for _ in range(5):  # probes and checkpoints
            run_steps(callback, 1, 60.0)
            run_steps(callback, WINDOW - 1, 0.1)
        run_steps(callback, 2 * WINDOW, 0.29)
        assert caplog.text == ""
        run_steps(callback, 3 * WINDOW, 0.31)
    (record,) = caplog.records
    assert record.getMessage() == (
        f"retrain: step {10 * WINDOW}: steps take 0.31 s, 3.1 times as long as before: its cores"
        " are slower than before (heat, memory, another virtual machine)"
    )
    with caplog.at_level(logging.WARNING):
        run_steps(callback, WINDOW, 0.1)
        run_steps(callback, 4 * WINDOW, 30.0)  # beyond 400 s, where all threads wait
    assert len(caplog.records) == 2
    assert "300.0 times as long as before: other processes compute" in caplog.text


def test_a_moment_reads_the_clocks_of_this_process() -> None:
    first = Moment.now()
    sum(range(200_000))
    spent = Moment.now().since(first)
    assert spent.computed > 0 and spent.wall > 0 and spent.waited >= 0
