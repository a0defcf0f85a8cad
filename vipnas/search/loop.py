"""The search: ask, score, write down, tell. No torch here."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from vipnas.arch import Arch
from vipnas.results import Trial
from vipnas.search.constraints import CostOf
from vipnas.search.journal import Journal
from vipnas.search.searchers import Searcher

# Failures that one arch may have: not finite, out of memory. Everything else is a mistake of ours
# and stops the search.
FAILURES = (FloatingPointError, MemoryError)
FAILURES_IN_A_ROW = 10


def search(
    searcher: Searcher,
    method: str,
    evaluate: Callable[[Arch], float],
    cost_of: CostOf,
    num_trials: int,
    journal: Journal,
    show: Callable[[Trial], None],
) -> list[Trial]:
    """Score `num_trials` archs that the searcher asks for; fewer if it finds no more new ones.

    Trials of this `method` that the journal holds are told again instead of scored; an arch that
    another method scored is not scored twice.
    """
    known = {trial.arch: trial for trial in journal.trials}
    written = [trial for trial in journal.trials if trial.method == method]
    trials: list[Trial] = []
    while len(trials) < num_trials:
        arch = searcher.ask()
        if arch is None:
            break
        if len(trials) < len(written):
            trial = written[len(trials)]
            _check_replay(trial, arch, journal)
        else:
            trial = _score(len(trials), method, arch, evaluate, cost_of, known)
            journal.append(trial)
            show(trial)
        searcher.tell(arch, trial.fitness)
        trials.append(trial)
        _check_failures(trials)
    return trials


def _score(
    number: int,
    method: str,
    arch: Arch,
    evaluate: Callable[[Arch], float],
    cost_of: CostOf,
    known: dict[Arch, Trial],
) -> Trial:
    started = time.monotonic()
    score: float | None = None
    failure: str | None = None
    if arch in known:
        score, failure = known[arch].score, known[arch].failure
    else:
        try:
            score = evaluate(arch)
            if not math.isfinite(score):
                raise FloatingPointError(f"the score is {score}")
        except FAILURES as error:
            score, failure = None, f"{type(error).__name__}: {error}"
    seconds = round(time.monotonic() - started, 3)
    return Trial(number, method, arch, score, cost_of(arch), seconds, failure)


def _check_replay(trial: Trial, arch: Arch, journal: Journal) -> None:
    if trial.arch != arch:
        raise ValueError(
            f"{journal.path}: {trial.method} trial {trial.number} is not the arch that this search"
            " would try; the journal was made by another version: remove the folder or choose"
            " another output"
        )


def _check_failures(trials: list[Trial]) -> None:
    last = trials[-FAILURES_IN_A_ROW:]
    if len(last) == FAILURES_IN_A_ROW and all(trial.failure for trial in last):
        raise ValueError(
            f"{FAILURES_IN_A_ROW} evaluations in a row failed; the last: {last[-1].failure}"
        )
