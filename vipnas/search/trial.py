"""One scored architecture of a search, in and out of JSON. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from vipnas.arch.clip import VideoArch
from vipnas.arch.image import Arch
from vipnas.files import Strict
from vipnas.quantities import Cost


@dataclass(frozen=True)
class Trial(Strict):
    """One scored architecture of a search; `score` is its quality with
    inherited weights, in 0..1: the mean object keypoint similarity.

    `number` counts the trials of one `method` (evolution, random) from 0. `seconds` is what the
    scoring took. A failed evaluation has no score and says why in `failure`; it counts as worse
    than any score. `parents` are the numbers of the trials that the arch was bred from, and
    `generation` is one more than the highest of theirs; 0 and none for an independent draw.
    `worker` says who scored it; `retried`, why a first attempt of it was lost (worker died, hung).
    `partial` scores are of a part of the people: the search gave up on that arch early.
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
        return float("-inf") if self.score is None else self.score
