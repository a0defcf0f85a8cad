"""What is measured of an architecture: frozen records, in and out of JSON. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from vipnas.arch import Arch
from vipnas.files import Strict


@dataclass(frozen=True)
class Cost(Strict):
    """What a network costs for one image: multiply-accumulates and parameters."""

    macs: int
    params: int

    def __str__(self) -> str:
        return f"{self.macs / 1e6:,.1f} MMACs, {self.params / 1e6:.3f} M parameters"


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
    """One scored architecture of a search; `score` is the AP with inherited weights, in 0..1.

    `number` counts the trials of one `method` (evolution, random) from 0. `seconds` is what the
    scoring took. A failed evaluation has no score and says why in `failure`; it counts as worse
    than any score.
    """

    number: int
    method: str
    arch: Arch
    score: float | None
    cost: Cost
    seconds: float
    failure: str | None = None

    @property
    def fitness(self) -> float:
        return float("-inf") if self.score is None else self.score
