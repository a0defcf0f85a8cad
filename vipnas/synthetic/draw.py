"""Draw shaded, anti-aliased tubes (limbs, torsos) and skulls on a canvas with a depth buffer.

H W height and width of the canvas, h w of the window that one solid touches. Depth is in metres
from the camera, colours are BGR in 0..255, an integer coordinate is the centre of a pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vipnas.synthetic.body import Camera, Matrix, Vector

Array = NDArray[np.floating]
Colour = tuple[float, float, float]

# Colours of a surface by position. Tubes pass the position along (0..1), across (-1..1) and towards
# the viewer (0..1). Skulls pass coordinates on the unit sphere (left, up, forward).
Paint = Callable[[Array, Array, Array], Array]

NOBODY = 0  # owner of background pixels; people are 1, 2, ... from far to near
THING = 255  # owner of pixels of foreground objects

MEETING_M = 0.004  # colours of surfaces closer in depth than this are mixed


@dataclass(frozen=True)
class Light:
    """Unit vector from the surface to the lamp, in the camera frame, and ambient brightness."""

    direction_xyz: tuple[float, float, float]
    ambient: float


class Canvas:
    """An image, the depth of the person being drawn, and the owner and part of each pixel."""

    def __init__(self, image_HW3: Array) -> None:
        height, width = image_HW3.shape[:2]
        self.image_HW3 = image_HW3
        self.depth_HW = np.full((height, width), np.inf, dtype=np.float32)
        self.owner_HW = np.full((height, width), NOBODY, dtype=np.uint8)
        self.part_HW = np.zeros((height, width), dtype=np.uint8)
        self.owner = NOBODY

    def begin(self, owner: int) -> None:
        """Start a new person or object, in front of everything drawn so far."""
        self.owner = owner
        self.depth_HW.fill(np.inf)

    def window(
        self, low_xy: tuple[float, float], high_xy: tuple[float, float]
    ) -> tuple[tuple[slice, slice], Array, Array] | None:
        """Return slices, x (1, w) and y (h, 1) of pixels between corners, or None if outside."""
        height, width = self.depth_HW.shape
        left, top = (max(math.floor(value) - 1, 0) for value in low_xy)
        right = min(math.ceil(high_xy[0]) + 2, width)
        bottom = min(math.ceil(high_xy[1]) + 2, height)
        if left >= right or top >= bottom:
            return None
        x = np.arange(left, right, dtype=np.float32)[None, :]
        y = np.arange(top, bottom, dtype=np.float32)[:, None]
        return (slice(top, bottom), slice(left, right)), x, y

    def blend(
        self,
        window: tuple[slice, slice],
        cover_hw: Array,
        depth_hw: Array,
        colour_hw3: Array,
        part: int,
    ) -> None:
        """Draw a surface where it is nearer than other surfaces of the same owner."""
        before = self.depth_HW[window]
        # A soft test over a few millimetres anti-aliases the line where two solids meet.
        nearer = np.clip((before - depth_hw) * np.float32(1.0 / MEETING_M) + 0.5, 0.0, 1.0)
        cover_hw = cover_hw * nearer
        image = self.image_HW3[window]
        image += (colour_hw3 - image) * cover_hw[..., None]
        solid = (cover_hw > 0.5) & (depth_hw < before)
        before[solid] = depth_hw[solid]
        self.owner_HW[window][solid] = self.owner
        self.part_HW[window][solid] = part


@dataclass(frozen=True)
class Tube:
    """The projection of a tapered tube with rounded ends.

    Attributes:
        start_xy, stop_xy: End points of the axis.
        half_width_px: Half width at either end.
        cap_px: Extent beyond either end point.
        depth_m: Depth of the axis at either end.
        rise_m: Height of the surface above the axis, towards the viewer, at either end.
        bulge_px: Additional half width in the middle (calf, waist).
    """

    start_xy: tuple[float, float]
    stop_xy: tuple[float, float]
    half_width_px: tuple[float, float]
    cap_px: tuple[float, float]
    depth_m: tuple[float, float]
    rise_m: tuple[float, float]
    bulge_px: float = 0.0


def round_tube(
    camera: Camera,
    start_xyz: Vector,
    stop_xyz: Vector,
    radius_m: tuple[float, float],
    bulge_m: float = 0.0,
) -> Tube:
    """Project a limb with circular sections and hemispherical ends."""
    scales = [camera.focal_px / float(point[2]) for point in (start_xyz, stop_xyz)]
    widths = (radius_m[0] * scales[0], radius_m[1] * scales[1])
    return Tube(
        camera.project(start_xyz),
        camera.project(stop_xyz),
        widths,
        widths,
        (float(start_xyz[2]), float(stop_xyz[2])),
        radius_m,
        bulge_m * scales[0],
    )


def oval_tube(
    camera: Camera,
    start_xyz: Vector,
    stop_xyz: Vector,
    frames: tuple[Matrix, Matrix],
    half_axes_m: tuple[tuple[float, float], tuple[float, float]],
    bulge_m: float = 0.0,
    roundness: float = 0.35,
) -> Tube:
    """Project a tube with elliptic sections, such as a torso.

    The extent of an ellipse with half-axis vectors p and q in direction d is
    sqrt((p.d)^2 + (q.d)^2). It gives the width across the axis, the cap along the axis, and the
    rise towards the viewer.

    Args:
        camera: The camera.
        start_xyz: Start of the axis.
        stop_xyz: End of the axis.
        frames: Frame at either end. Columns 0 and 2 are the directions of the half axes.
        half_axes_m: Half axes (lateral, forward) at either end.
        bulge_m: Additional half width in the middle.
        roundness: Height of the caps relative to the lateral half axis.
    """
    ends_xy = [camera.project(start_xyz), camera.project(stop_xyz)]
    along = np.subtract(ends_xy[1], ends_xy[0])
    length = float(np.hypot(*along))
    along = along / length if length > 1e-6 else np.array([0.0, 1.0])
    axis, across = np.array([*along, 0.0]), np.array([-along[1], along[0], 0.0])
    towards = np.array([0.0, 0.0, 1.0])
    widths, caps, rises = [], [], []
    for point, frame, (lateral, forward) in zip(
        (start_xyz, stop_xyz), frames, half_axes_m, strict=True
    ):
        scale = camera.focal_px / float(point[2])
        section = np.stack((frame[:, 0] * lateral, frame[:, 2] * forward))
        reach = [float(np.hypot(*(section @ way))) for way in (across, axis, towards)]
        widths.append(reach[0] * scale)
        caps.append(math.hypot(reach[1], roundness * lateral) * scale)
        rises.append(reach[2])
    return Tube(
        ends_xy[0],
        ends_xy[1],
        (widths[0], widths[1]),
        (caps[0], caps[1]),
        (float(start_xyz[2]), float(stop_xyz[2])),
        (rises[0], rises[1]),
        bulge_m * camera.focal_px / float(start_xyz[2]),
    )


def draw_tube(canvas: Canvas, tube: Tube, paint: Paint, light: Light, part: int = 0) -> None:
    """Draw a tube. Its depth follows the axis and rises towards the viewer."""
    (ax, ay), (bx, by) = tube.start_xy, tube.stop_xy
    reach = [
        max(*pair) + max(tube.bulge_px, 0.0)
        for pair in zip(tube.half_width_px, tube.cap_px, strict=True)
    ]
    placed = canvas.window(
        (min(ax - reach[0], bx - reach[1]), min(ay - reach[0], by - reach[1])),
        (max(ax + reach[0], bx + reach[1]), max(ay + reach[0], by + reach[1])),
    )
    if placed is None:
        return
    window, x, y = placed
    length = math.hypot(bx - ax, by - ay)
    # A limb that points at the camera has no direction in the image: take any.
    dx, dy = ((bx - ax) / length, (by - ay) / length) if length > 1e-3 else (1.0, 0.0)
    length = max(length, 1e-3)
    along = (x - np.float32(ax)) * dx + (y - np.float32(ay)) * dy
    across = (y - np.float32(ay)) * dx - (x - np.float32(ax)) * dy
    t = np.clip(along * (1.0 / length), 0.0, 1.0)
    width = tube.half_width_px[0] + (tube.half_width_px[1] - tube.half_width_px[0]) * t
    if tube.bulge_px:
        width += (4.0 * tube.bulge_px) * t * (1.0 - t)
    width = np.maximum(width, np.float32(0.4))
    # Beyond an end, distances along the axis are scaled so that the cap's height is the radius.
    before = np.minimum(along, 0.0) * (tube.half_width_px[0] / max(tube.cap_px[0], 0.4))
    after = np.maximum(along - length, 0.0) * (tube.half_width_px[1] / max(tube.cap_px[1], 0.4))
    beyond = (before + after) / width
    side = across / width
    square = side * side + beyond * beyond
    cover = np.clip((1.0 - np.sqrt(square)) * width + 0.5, 0.0, 1.0)
    front = np.sqrt(np.maximum(1.0 - square, 0.0))
    rise = tube.rise_m[0] + (tube.rise_m[1] - tube.rise_m[0]) * t
    depth = tube.depth_m[0] + (tube.depth_m[1] - tube.depth_m[0]) * t - rise * front
    lx, ly, lz = light.direction_xyz
    facing = side * (dx * ly - dy * lx) + beyond * (dx * lx + dy * ly) - front * lz
    colour = paint(t, side, front) * _shade(facing, front, light)[..., None]
    canvas.blend(window, cover, depth, colour, part)


def _shade(facing_hw: Array, front_hw: Array, light: Light) -> Array:
    """Return the brightness by the angle to the lamp, darker towards the outline."""
    lit = light.ambient + (1.0 - light.ambient) * np.maximum(facing_hw, 0.0)
    return lit * (0.78 + 0.22 * front_hw) * np.float32(1.25)


def draw_skull(
    canvas: Canvas,
    camera: Camera,
    centre_xyz: Vector,
    frame: Matrix,
    half_axes_m: Vector,
    paint: Paint,
    light: Light,
    part: int = 0,
) -> None:
    """Draw an ellipsoid by one ray per pixel. Rays are parallel, because heads are small.

    `paint` gets the coordinates of the hit on the unit sphere, (left, up, forward) in `frame`.
    """
    scale = camera.focal_px / float(centre_xyz[2])
    cx, cy = camera.project(centre_xyz)
    reach = float(half_axes_m.max()) * scale
    placed = canvas.window((cx - reach, cy - reach), (cx + reach, cy + reach))
    if placed is None:
        return
    window, x, y = placed
    x, y = (x - np.float32(cx)) / scale, (y - np.float32(cy)) / scale
    inverse = (frame / half_axes_m).T  # from metres to the unit sphere
    form = inverse.T @ inverse
    a, b = form[2, 2], form[0, 2] * x + form[1, 2] * y
    c = form[0, 0] * x * x + 2.0 * form[0, 1] * x * y + form[1, 1] * y * y - 1.0
    # The outline is where the discriminant is 0. Of a sphere, it falls by 2 a / radius per metre.
    inside = (b * b - a * c).astype(np.float32)
    cover = np.clip(inside * (float(half_axes_m.mean()) / (2.0 * a) * scale) + 0.5, 0.0, 1.0)
    root = np.sqrt(np.maximum(inside, 0.0))
    z = (-b - root) / a
    unit = [
        (inverse[axis, 0] * x + inverse[axis, 1] * y + inverse[axis, 2] * z).astype(np.float32)
        for axis in range(3)
    ]
    normal = [
        sum(inverse[axis, way] * unit[axis] for axis in range(3)).astype(np.float32)
        for way in range(3)
    ]
    norm = np.sqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2) + np.float32(1e-6)
    lx, ly, lz = light.direction_xyz
    facing = (normal[0] * lx + normal[1] * ly + normal[2] * lz) / norm
    colour = paint(unit[0], unit[1], unit[2])
    colour = colour * _shade(facing, np.clip(-normal[2] / norm, 0.0, 1.0), light)[..., None]
    depth = (float(centre_xyz[2]) + z).astype(np.float32)
    canvas.blend(window, cover.astype(np.float32), depth, colour, part)
