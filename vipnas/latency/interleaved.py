"""Interleaved timing: repeatable latencies, or a refusal where the machine is noisy."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from vipnas.errors import UserError
from vipnas.files import Strict
from vipnas.threads import waited_seconds

# The largest accepted interquartile range over the median.
MAX_SPREAD = 0.1
ROUNDS = 6
ATTEMPTS = 4
TIMED_RUNS = 2
# After a large network, a small one takes milliseconds to reach its speed: one run is not enough.
WARM_UP_SECONDS = 5e-3
# Shorter runs are timed several at a time: a clock and a Python call cost microseconds.
MIN_SAMPLE_SECONDS = 2e-3
# A sample is disturbed if threads waited for a core for more than this part of the accepted spread.
# At least this part of the samples must be undisturbed.
WAITING = 0.25
MIN_UNDISTURBED = 0.5

Clock = Callable[[], float]


@dataclass(frozen=True)
class Latency(Strict):
    """The latency of one run.

    Attributes:
        median_ms: The median of the samples.
        spread: The interquartile range of the samples over their median.
        num_samples: The undisturbed samples.
    """

    median_ms: PositiveFloat
    spread: NonNegativeFloat
    num_samples: PositiveInt

    def __str__(self) -> str:
        return f"{self.median_ms:.2f} ms (spread {self.spread:.1%}, {self.num_samples} samples)"


class TooNoisy(UserError):
    """The machine is busy with something else: a median would mean nothing."""


class Sample(NamedTuple):
    """The seconds of one run, and the part of that time in which threads waited for a core."""

    seconds: float
    waited: float


class WithAnchor(NamedTuple):
    """A latency, and the anchor's in the same rounds."""

    latency: Latency
    anchor_ms: float


class Repeats(NamedTuple):
    """The number of warm-up runs, and of runs in a sample."""

    warm_up: int
    sample: int


def interleaved(
    runs: Sequence[Callable[[], None]],
    max_spread: float = MAX_SPREAD,
    rounds: int = ROUNDS,
    clock: Clock = time.perf_counter,
) -> list[Latency]:
    """Time the runs in turn, so that disturbances of the machine affect all of them.

    In each round every run gets 5 ms of warm-up, at least one run, and two samples of at least
    2 ms. Two runs at the start tell how many runs that takes. Samples in which a thread waited for
    a core are dropped. Runs with less than half of their samples left, or with too large a spread,
    are timed again.

    Args:
        runs: What to time.
        max_spread: The largest accepted spread, as in `Latency`.
        rounds: The number of rounds.
        clock: Returns seconds.

    Raises:
        TooNoisy: A run is still noisy after several attempts.
    """
    found = _latencies_of_rounds(runs, max_spread, rounds, clock)
    return [latencies[number] for number, latencies in enumerate(found)]


def interleaved_with_anchor(
    anchor: Callable[[], None],
    runs: Sequence[Callable[[], None]],
    max_spread: float = MAX_SPREAD,
    rounds: int = ROUNDS,
    clock: Clock = time.perf_counter,
) -> list[WithAnchor]:
    """Time the runs as `interleaved` does, each with an anchor in the same rounds.

    The anchor is timed again with every run that is, and all runs are where the anchor was noisy:
    times of different minutes must not be compared.
    """
    found = _latencies_of_rounds([anchor, *runs], max_spread, rounds, clock, always=(0,))
    return [
        WithAnchor(latencies[number], latencies[0].median_ms)
        for number, latencies in enumerate(found[1:], start=1)
    ]


def _latencies_of_rounds(
    runs: Sequence[Callable[[], None]],
    max_spread: float,
    rounds: int,
    clock: Clock,
    always: Sequence[int] = (),
) -> list[dict[int, Latency]]:
    """Return, for each run, all latencies of the first attempt in which it was not noisy.

    Runs of the numbers `always` take part in every attempt, and must not be noisy either.
    """
    repeats = [_repeats(run, clock) for run in runs]
    done: dict[int, dict[int, Latency]] = {}
    for attempt in range(ATTEMPTS):
        missing = [number for number in range(len(runs)) if number not in done]
        timed = sorted({*missing, *always})
        samples: dict[int, list[Sample]] = {number: [] for number in timed}
        for _ in range(rounds):
            for number in timed:
                samples[number] += _samples(runs[number], repeats[number], clock)
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


def _samples(run: Callable[[], None], repeats: Repeats, clock: Clock) -> Iterator[Sample]:
    for _ in range(repeats.warm_up):
        run()
    for _ in range(TIMED_RUNS):
        waited = waited_seconds()
        started = clock()
        for _ in range(repeats.sample):
            run()
        seconds = clock() - started
        waited = waited_seconds() - waited
        yield Sample(seconds / repeats.sample, waited / max(seconds, 1e-9))


def _repeats(run: Callable[[], None], clock: Clock) -> Repeats:
    run()
    started = clock()
    run()
    seconds = max(clock() - started, 1e-6)
    warm_up, sample = (round(least / seconds) for least in (WARM_UP_SECONDS, MIN_SAMPLE_SECONDS))
    return Repeats(max(1, warm_up), max(1, sample))


def _latency(samples: Sequence[Sample], max_spread: float) -> Latency:
    kept = [sample.seconds for sample in samples if sample.waited <= WAITING * max_spread]
    if len(kept) < MIN_UNDISTURBED * len(samples):
        expected = f"at most {1 - MIN_UNDISTURBED:.0%} of the samples to wait for a core"
        found = f"{len(samples) - len(kept)} of {len(samples)}"
        raise TooNoisy("machine", expected, found, "it is busy with something else")
    low, median, high = np.percentile(kept, (25, 50, 75))
    latency = Latency(float(median) * 1e3, float((high - low) / median), len(kept))
    if latency.spread > max_spread:
        found = f"{latency.spread:.0%} over {len(kept)} samples"
        raise TooNoisy("machine", f"a spread of at most {max_spread:.0%}", found, "it is too noisy")
    return latency
