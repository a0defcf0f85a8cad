"""The trials that no other trial beats. No torch here."""

from __future__ import annotations

from collections.abc import Iterable

from vipnas.results import Trial


def pareto_front(trials: Iterable[Trial]) -> list[Trial]:
    """Trials such that no other scores higher at no more MACs, the cheapest first. Failures are
    left out."""
    scored = [trial for trial in trials if trial.score is not None]
    scored.sort(key=lambda trial: (trial.cost.macs, -trial.fitness, trial.number))
    front: list[Trial] = []
    for trial in scored:
        if not front or trial.fitness > front[-1].fitness:
            front.append(trial)
    return front
