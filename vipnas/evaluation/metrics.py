"""The COCO keypoint metrics of a network."""

from __future__ import annotations

from dataclasses import dataclass

from vipnas.files import Strict


@dataclass(frozen=True)
class Metrics(Strict):
    """The ten keypoint metrics of the COCO protocol, in 0..1; -1 where no person has that size."""

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
