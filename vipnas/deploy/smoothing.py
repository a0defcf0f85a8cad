"""The One-Euro filter: remove the jitter of a track's joints, at the price of some lag.

N persons in a frame, K joints.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vipnas.errors import UserError

FloatArray = NDArray[np.float64]


class _State(NamedTuple):
    """Of one track: when it was last seen, where its joints were, and how fast."""

    time_s: float
    raw_K2: FloatArray
    smooth_K2: FloatArray
    speed_K2: FloatArray  # in sizes of the person a second


@dataclass
class OneEuroFilter:
    """Smooth the joints of each track by a low-pass filter whose cutoff rises with their speed.

    A coordinate x becomes `a x + (1 - a) x_before`, where `a = 1 / (1 + tau / dt)` and
    `tau = 1 / (2 pi cutoff)`. The cutoff is `min_cutoff_hz + beta |speed|`. The speed itself is
    filtered with `speed_cutoff_hz` (Casiez, Roussel, Vogel, "1 Euro Filter: A Simple Speed-based
    Low-pass Filter for Noisy Input in Interactive Systems", CHI 2012). Speeds are in sizes of the
    person a second, so that near and far persons are smoothed alike; a size is the mean of the
    box's width and height.

    The sizes and the defaults are those of MediaPipe's `pose_landmark_filtering`; 1 Hz for the
    speed is the authors' default, too. The speed is that of the raw coordinate, as in MediaPipe;
    in the authors' code it is the distance from the smoothed one before, divided by the time.

    Lag: a joint that moves steadily at v sizes a second is shown tau late, the time that
    `lag_s(v)` returns. It is 3.2 s at rest, 0.19 s at 0.01, 20 ms at 0.1 and 2 ms at 1 size a
    second. A joint that starts to move is late by more, until the filtered speed has risen.

    Attributes:
        min_cutoff_hz: Less makes joints at rest steadier.
        beta: In Hz per size a second. More makes moving joints less late.
        speed_cutoff_hz: Cutoff of the speed.
        max_gap_s: A track that was not seen for longer starts afresh.

    Raises:
        UserError: A setting is out of range.
    """

    min_cutoff_hz: float = 0.05
    beta: float = 80.0
    speed_cutoff_hz: float = 1.0
    max_gap_s: float = 0.5
    _states: dict[int, _State] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("min_cutoff_hz", "speed_cutoff_hz", "max_gap_s"):
            if not 0 < getattr(self, name) < math.inf:
                found = getattr(self, name)
                raise UserError(f"smoothing: {name}", "a number above 0", str(found))
        if not 0 <= self.beta < math.inf:
            raise UserError("smoothing: beta", "0 or more", str(self.beta))

    def __call__(
        self,
        time_s: float,
        ids: Sequence[int] | NDArray[np.int64],
        keypoints_NK2: NDArray[np.floating],
        boxes_xyxy: NDArray[np.floating],
    ) -> FloatArray:
        """Return the smoothed joints (N, K, 2) of the next frame.

        Args:
            time_s: Time of the frame, later than that of the one before.
            ids: Track ids (N,).
            keypoints_NK2: x and y in pixels of the image.
            boxes_xyxy: (N, 4), left, top, right and bottom in pixels.
        """
        smooth_NK2 = np.array(keypoints_NK2, np.float64)
        sizes_N = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).mean(axis=1)
        for row, number in enumerate(map(int, ids)):
            state = self._next(self._states.get(number), time_s, smooth_NK2[row], sizes_N[row])
            self._states[number] = state
            smooth_NK2[row] = state.smooth_K2
        self._states = {
            number: state
            for number, state in self._states.items()
            if time_s - state.time_s <= self.max_gap_s
        }
        return smooth_NK2

    def lag_s(self, speed: float) -> float:
        """Return how late a joint is shown that moves steadily at `speed` sizes a second."""
        return 1 / (2 * math.pi * (self.min_cutoff_hz + self.beta * abs(speed)))

    def _next(
        self, before: _State | None, time_s: float, raw_K2: FloatArray, size: float
    ) -> _State:
        raw_K2 = raw_K2.copy()
        if before is None or not 0 < time_s - before.time_s <= self.max_gap_s:
            return _State(time_s, raw_K2, raw_K2, np.zeros_like(raw_K2))
        step_s = time_s - before.time_s
        speed_K2 = (raw_K2 - before.raw_K2) / (step_s * max(size, 1.0))
        speed_K2 = _low_pass(before.speed_K2, speed_K2, np.array(self.speed_cutoff_hz), step_s)
        cutoff_K2 = self.min_cutoff_hz + self.beta * np.abs(speed_K2)
        smooth_K2 = _low_pass(before.smooth_K2, raw_K2, cutoff_K2, step_s)
        return _State(time_s, raw_K2, smooth_K2, speed_K2)


def _low_pass(
    before_K2: FloatArray, now_K2: FloatArray, cutoff_hz: FloatArray, step_s: float
) -> FloatArray:
    share = 1 / (1 + 1 / (2 * math.pi * cutoff_hz * step_s))
    return np.asarray(share * now_K2 + (1 - share) * before_K2)
