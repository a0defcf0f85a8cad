"""How the camera of a synthetic video moves, and how it loses its focus."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vipnas.synthetic.body import Camera

FRAMES_PER_SECOND = 25.0
SPELLS_PER_SECOND = 0.8


@dataclass(frozen=True)
class CameraMove:
    """How a camera moves, in pixels and shares of its focal length; at rest in the middle of the
    clip. A sum of slow swings for pan and zoom, and of quick ones for a hand that shakes."""

    still: Camera
    swings: NDArray[np.float64]  # (N, 4): hertz, and how far in x, in y, and in zoom
    phases: NDArray[np.float64]
    drift_px_per_s: tuple[float, float]
    middle_s: float

    def at(self, seconds: float) -> Camera:
        turns = 2 * math.pi * self.swings[:, :1]
        waves = np.sin(turns * seconds + self.phases) - np.sin(turns * self.middle_s + self.phases)
        x, y, zoom = (waves * self.swings[:, 1:]).sum(axis=0)
        since = seconds - self.middle_s
        centre_x, centre_y = self.still.centre_xy
        return replace(
            self.still,
            focal_px=self.still.focal_px * math.exp(zoom),
            centre_xy=(
                float(centre_x + x + self.drift_px_per_s[0] * since),
                float(centre_y + y + self.drift_px_per_s[1] * since),
            ),
        )

    def moved(self, camera: Camera) -> NDArray[np.float64]:
        """Where a place of the picture at rest is in that of `camera`, an affine (2, 3)."""
        zoom = camera.focal_px / self.still.focal_px
        offset = np.subtract(camera.centre_xy, np.multiply(zoom, self.still.centre_xy))
        return np.array(((zoom, 0.0, offset[0]), (0.0, zoom, offset[1])))


def random_camera_move(
    rng: np.random.Generator,
    still: Camera,
    image_hw: tuple[int, int],
    seconds: float,
    difficulty: float,
) -> CameraMove:
    height, width = image_hw
    slow, quick = difficulty * rng.uniform(0, 1, 2)
    swings = [
        (rng.uniform(0.15, 0.5), 0.1 * width * slow, 0.04 * height * slow, 0.1 * slow),
        (rng.uniform(0.5, 1.0), 0.03 * width * slow, 0.02 * height * slow, 0.03 * slow),
        (rng.uniform(3, 5), 0.004 * width * quick, 0.006 * height * quick, 0.0),
        (rng.uniform(5, 8), 0.003 * width * quick, 0.004 * height * quick, 0.0),
    ]
    drift = difficulty * rng.normal(0, (0.1 * width, 0.02 * height))
    phases = rng.uniform(0, 2 * math.pi, (4, 3))
    return CameraMove(
        still, np.array(swings), phases, (float(drift[0]), float(drift[1])), seconds / 2
    )


@dataclass(frozen=True)
class Conditions:
    """What one frame suffers more than others: blur in pixels, the share of the light that is left,
    and how many times the noise."""

    blur_px: float = 0.0
    light: float = 1.0
    noise: float = 1.0


def random_conditions(
    rng: np.random.Generator, num_frames: int, image_hw: tuple[int, int], difficulty: float
) -> list[Conditions]:
    """Of each frame: now and then the focus is lost, or the light, for a few frames."""
    blur, dark = (_spells(rng, num_frames, difficulty) for _ in range(2))
    worst_px = rng.uniform(0.004, 0.016) * image_hw[0]
    darkest = rng.uniform(0.15, 0.6)
    return [
        Conditions(
            float(worst_px * lost), float(1 - (1 - darkest) * dim), float(1 + 2 * difficulty * dim)
        )
        for lost, dim in zip(blur, dark, strict=True)
    ]


def _spells(rng: np.random.Generator, num_frames: int, difficulty: float) -> NDArray[np.float64]:
    """How much, 0 to 1, of something comes in each frame: spells with a beginning and an end."""
    numbers, amount = np.arange(num_frames), np.zeros(num_frames)
    for _ in range(
        int(rng.poisson(SPELLS_PER_SECOND * difficulty * num_frames / FRAMES_PER_SECOND))
    ):
        middle, length = rng.uniform(0, num_frames), rng.uniform(1, 4)
        amount = np.maximum(amount, np.exp(-(((numbers - middle) / length) ** 2)))
    return amount
