"""What is measured of an architecture: frozen records, in and out of JSON. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from vipnas.arch import Arch
from vipnas.files import Strict
from vipnas.video_arch import VideoArch


@dataclass(frozen=True)
class Cost(Strict):
    """What a network costs for one image: multiply-accumulates, parameters, and milliseconds on the
    device that a latency table is of (None without a table)."""

    macs: int
    params: int
    latency_ms: float | None = None

    def __str__(self) -> str:
        counted = f"{self.macs / 1e6:,.1f} MMACs, {self.params / 1e6:.3f} M parameters"
        return counted if self.latency_ms is None else f"{counted}, {self.latency_ms:.2f} ms"


@dataclass(frozen=True)
class Metrics(Strict):
    """The ten keypoint figures of the COCO protocol, each in 0..1 (-1 where no person has that
    size)."""

    ap: float
    ap50: float
    ap75: float
    ap_medium: float
    ap_large: float
    ar: float
    ar50: float
    ar75: float
    ar_medium: float
    ar_large: float

    def __str__(self) -> str:
        return f"AP {self.ap:.3f} (AP50 {self.ap50:.3f}, AP75 {self.ap75:.3f}), AR {self.ar:.3f}"


@dataclass(frozen=True)
class Trial(Strict):
    """One scored architecture of a search; `score` is its quality with
    inherited weights, in 0..1: of images the mean object keypoint similarity, of clips the AP.

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
