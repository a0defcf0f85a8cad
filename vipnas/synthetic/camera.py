"""Camera motion, focus and exposure of a synthetic video."""

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
    """Motion of a camera: slow oscillations for pan and zoom, quick ones for a shaking hand.

    Attributes:
        still: The camera in the middle of the clip.
        swings: (N, 4): frequency in hertz, and amplitudes of x and y in pixels and of log zoom.
        phases: (N, 3): phases of x, y and zoom.
        drift_px_per_s: Constant motion in x and y.
        middle_s: Middle of the clip, in seconds.
    """

    still: Camera
    swings: NDArray[np.float64]
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
        """Return the affine (2, 3) from the image of the still camera to that of `camera`."""
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
    """Degradation of one frame.

    Attributes:
        blur_px: Standard deviation of additional blur.
        light: Factor of the brightness.
        noise: Factor of the noise.
    """

    blur_px: float = 0.0
    light: float = 1.0
    noise: float = 1.0


def random_conditions(
    rng: np.random.Generator, num_frames: int, image_hw: tuple[int, int], difficulty: float
) -> list[Conditions]:
    """Sample the conditions of each frame: focus or light is sometimes lost for a few frames."""
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
    """Sample an amount from 0 to 1 for each frame, above 0 in short spells only."""
    numbers, amount = np.arange(num_frames), np.zeros(num_frames)
    for _ in range(
        int(rng.poisson(SPELLS_PER_SECOND * difficulty * num_frames / FRAMES_PER_SECOND))
    ):
        middle, length = rng.uniform(0, num_frames), rng.uniform(1, 4)
        amount = np.maximum(amount, np.exp(-(((numbers - middle) / length) ** 2)))
    return amount
