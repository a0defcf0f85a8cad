"""The camera of synthetic pictures: from light to a JPEG."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vipnas.synthetic.draw import Array


@dataclass(frozen=True)
class Sensor:
    """How a camera turns light into a JPEG.

    Attributes:
        falloff: Brightness at the four corners.
        cast: Factor of each colour channel.
        gain: Contrast.
        middle: Grey level that 127 is mapped to.
        blur_px: Standard deviation of the blur; none up to 0.25.
        noise: Standard deviation of the noise, in grey levels.
        quality: JPEG quality.
    """

    falloff: NDArray[np.float64]
    cast: Array
    gain: float
    middle: float
    blur_px: float
    noise: float
    quality: int

    def photograph(self, image_HW3: Array, noise_HW3: Array, more_blur_px: float = 0.0) -> bytes:
        """Return a JPEG of the scene.

        Args:
            image_HW3: Light that arrives, BGR.
            noise_HW3: Standard normal noise.
            more_blur_px: Standard deviation of additional blur, as out of focus.
        """
        falloff = enlarge(self.falloff, image_HW3.shape[:2])[..., None]
        gain, middle = np.float32(self.gain), np.float32(self.middle)
        image = (image_HW3 * falloff * self.cast - 127.0) * gain + middle
        sigma_px = float(np.hypot(max(self.blur_px, 0.0), more_blur_px))
        if sigma_px > 0.25:
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px), dtype=np.float32)
        image += noise_HW3 * np.float32(self.noise)
        pixels = np.clip(np.rint(image), 0, 255).astype(np.uint8)
        done, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        if not done:
            raise RuntimeError("OpenCV could not encode a JPEG")
        return data.tobytes()


def random_sensor(rng: np.random.Generator, image_hw: tuple[int, int]) -> tuple[Sensor, Array]:
    """Sample a sensor, and the standard normal noise (H, W, 3) of its first image."""
    falloff = rng.uniform(0.78, 1.12, (2, 2, 1))
    cast = rng.normal(1.0, 0.04, 3).astype(np.float32)
    gain, middle = float(rng.uniform(0.8, 1.15)), float(rng.uniform(110, 150))
    blur_px = float(rng.uniform(-0.6, 0.9))
    noise_HW3 = rng.standard_normal((*image_hw, 3), dtype=np.float32)
    noise, quality = float(rng.uniform(0.5, 7)), int(rng.integers(60, 96))
    return Sensor(falloff, cast, gain, middle, blur_px, noise, quality), noise_HW3


def enlarge(grid: NDArray[np.float64], image_hw: tuple[int, int]) -> Array:
    """Return a coarse grid (h, w, C) at the size of an image, interpolated smoothly."""
    height, width = image_hw
    large = cv2.resize(grid.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(large, dtype=np.float32)
