"""Timing anything in turns, so that the number can be repeated, or refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vipnas.files import Strict

# Interquartile range over median, beyond which the machine is called too noisy.
MAX_SPREAD = 0.1
ROUNDS = 6
ATTEMPTS = 4
TIMED_RUNS = 2
# A small network that ran after a large one takes half as long again, and is as fast as it gets
# after some milliseconds: one run does not warm it up.
WARM_UP_SECONDS = 5e-3
# Shorter runs are timed several at a time: a clock and a call of Python cost microseconds.
MIN_SAMPLE_SECONDS = 2e-3
# A sample is disturbed that waited for a core for more than this part of the spread allowed; of the
# samples so many must be undisturbed.
WAITING = 0.25
MIN_UNDISTURBED = 0.5

Clock = Callable[[], float]


@dataclass(frozen=True)
class Latency(Strict):
    """`median_ms` of one run; `spread` is the interquartile range of the samples over their
    median."""

    median_ms: float
    spread: float
    num_samples: int

    def __str__(self) -> str:
        return f"{self.median_ms:.2f} ms (spread {self.spread:.1%}, {self.num_samples} samples)"


class TooNoisy(ValueError):
    """The machine does other things: a median would say nothing."""


class Sample(NamedTuple):
    """Seconds of one run, and the part of the time for which threads waited for a core."""

    seconds: float
    waited: float


class Beside(NamedTuple):
    """A latency, and that of the anchor in the very same rounds."""

    latency: Latency
    anchor_ms: float


class Repeats(NamedTuple):
    """How many runs warm up, and how many make a sample."""

    warm_up: int
    sample: int


def interleaved(
    runs: Sequence[Callable[[], None]],
    max_spread: float = MAX_SPREAD,
    rounds: int = ROUNDS,
    clock: Clock = time.perf_counter,
) -> list[Latency]:
    """Time the runs in turn, so that whatever else the machine does meets all of them.

    A turn is 5 ms of runs, at least one, that only warm up, and two samples. Two runs at the start
    say how many runs that is, and how many make a sample of 2 ms. Samples during which a thread of
    ours was ready but another process had the core are thrown away. Those of which fewer than half
    are left, or whose spread is larger than `max_spread`, are timed anew, the others not: of twenty
    short runs there is always one that something has met. Raises TooNoisy where one stays noisy.
    """
    found = _quiet_rounds(runs, max_spread, rounds, clock)
    return [latencies[number] for number, latencies in enumerate(found)]


def beside(
    anchor: Callable[[], None],
    runs: Sequence[Callable[[], None]],
    max_spread: float = MAX_SPREAD,
    rounds: int = ROUNDS,
    clock: Clock = time.perf_counter,
) -> list[Beside]:
    """As `interleaved`; whatever is timed again, the anchor is too, and where the anchor was noisy
    all is: times of different minutes may not be compared."""
    found = _quiet_rounds([anchor, *runs], max_spread, rounds, clock, always=(0,))
    return [
        Beside(latencies[number], latencies[0].median_ms)
        for number, latencies in enumerate(found[1:], start=1)
    ]


def _quiet_rounds(
    runs: Sequence[Callable[[], None]],
    max_spread: float,
    rounds: int,
    clock: Clock,
    always: Sequence[int] = (),
) -> list[dict[int, Latency]]:
    """For each run all latencies of the first rounds in which it was quiet, as were those of
    `always`, which take part in all."""
    repeats = [_repeats(run, clock) for run in runs]
    done: dict[int, dict[int, Latency]] = {}
    for attempt in range(ATTEMPTS):
        missing = [number for number in range(len(runs)) if number not in done]
        timed = sorted({*missing, *always})
        samples: dict[int, list[Sample]] = {number: [] for number in timed}
        for _ in range(rounds):
            for number in timed:
                samples[number] += _turn(runs[number], repeats[number], clock)
        latencies: dict[int, Latency] = {}
        for number in timed:
            try:
                latencies[number] = _latency(samples[number], max_spread)
            except TooNoisy:
                if attempt == ATTEMPTS - 1:
                    raise
        if latencies.keys() >= set(always):
            done |= {number: latencies for number in missing if number in latencies}
        if len(done) == len(runs):
            break
    return [done[number] for number in range(len(runs))]


def _turn(run: Callable[[], None], repeats: Repeats, clock: Clock) -> Iterator[Sample]:
    for _ in range(repeats.warm_up):
        run()
    for _ in range(TIMED_RUNS):
        waited = _waited_seconds()
        started = clock()
        for _ in range(repeats.sample):
            run()
        seconds = clock() - started
        waited = _waited_seconds() - waited
        yield Sample(seconds / repeats.sample, waited / max(seconds, 1e-9))


def _repeats(run: Callable[[], None], clock: Clock) -> Repeats:
    run()
    started = clock()
    run()
    seconds = max(clock() - started, 1e-6)
    warm_up, sample = (round(least / seconds) for least in (WARM_UP_SECONDS, MIN_SAMPLE_SECONDS))
    return Repeats(max(1, warm_up), max(1, sample))


def _waited_seconds() -> float:
    """How long threads of this process were ready to run but had no core, added up since they
    started; 0 where the system does not say."""
    nanoseconds = 0
    for file in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError):  # a thread may end at any moment
            nanoseconds += int(file.read_text().split()[1])
    return nanoseconds / 1e9


def _latency(samples: Sequence[Sample], max_spread: float) -> Latency:
    kept = [sample.seconds for sample in samples if sample.waited <= WAITING * max_spread]
    if len(kept) < MIN_UNDISTURBED * len(samples):
        raise TooNoisy(
            f"the machine is too busy: {len(samples) - len(kept)} of {len(samples)} runs waited for"
            f" a core that another process had; allowed are {1 - MIN_UNDISTURBED:.0%} of them"
        )
    low, median, high = np.percentile(kept, (25, 50, 75))
    latency = Latency(float(median) * 1e3, float((high - low) / median), len(kept))
    if latency.spread > max_spread:
        raise TooNoisy(
            f"the machine is too noisy: the middle half of {len(kept)} runs spreads over"
            f" {latency.spread:.0%} of their median, allowed are {max_spread:.0%}"
        )
    return latency
