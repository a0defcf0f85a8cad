"""A trial: one scored architecture of a search. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from vipnas.arch.clip import VideoArch
from vipnas.arch.image import Arch
from vipnas.files import Strict
from vipnas.quantities import Cost


@dataclass(frozen=True)
class Trial(Strict):
    """One scored architecture of a search.

    Attributes:
        number: Counts the trials of one method from 0.
        method: The name of the searcher, such as evolution or random.
        arch: The architecture.
        score: Its quality with inherited weights, 0 to 1: the mean object keypoint similarity, for
            images and clips. None if scoring failed, which is worse than any score.
        cost: Its cost.
        seconds: How long scoring took.
        failure: Why scoring failed.
        generation: 1 more than the highest of its parents; 0 for an independent sample.
        parents: Numbers of the trials that it was bred from.
        worker: The worker that scored it.
        retried: Why a first attempt was lost (the worker died or exceeded the time limit).
        partial: The score is of a part of the persons, because scoring stopped early.
    """

    number: int
    method: str
    arch: Arch | VideoArch
    score: float | None
    cost: Cost
    seconds: float
    failure: str | None = None
    generation: int = 0
    parents: tuple[int, ...] = ()
    worker: str | None = None
    retried: str | None = None
    partial: bool = False

    @property
    def fitness(self) -> float:
        """The score; -inf for a failure."""
        return float("-inf") if self.score is None else self.score
