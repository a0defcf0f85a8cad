"""Solids against the formulas of their pictures."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vipnas.synthetic.body import Camera, rotation_x, rotation_y
from vipnas.synthetic.draw import Canvas, Light, Tube, draw_skull, draw_tube, oval_tube
from vipnas.synthetic.paint import plain

LIGHT = Light((0.0, 0.0, -1.0), 0.5)
RED = plain((0.0, 0.0, 200.0))


def blank() -> Canvas:
    return Canvas(np.zeros((100, 140, 3), dtype=np.float32))


Point = tuple[float, float]


def tube(start_xy: Point, stop_xy: Point, radius: float, depth_m: float = 5.0) -> Tube:
    pair = (radius, radius)
    return Tube(start_xy, stop_xy, pair, pair, (depth_m, depth_m), (0.1, 0.1))


@pytest.mark.parametrize("stop_xy", [(100.0, 40.3), (61.0, 83.0), (30.2, 40.3)])
def test_a_tube_covers_the_area_of_a_stadium(stop_xy: tuple[float, float]) -> None:
    canvas = blank()
    draw_tube(canvas, tube((30.2, 40.3), stop_xy, 9.0), RED, LIGHT)
    length = math.dist((30.2, 40.3), stop_xy)
    expected = 2 * 9.0 * length + math.pi * 9.0**2
    assert np.isfinite(canvas.depth_HW).sum() == pytest.approx(expected, rel=0.015)


def test_a_tube_is_centred_on_its_axis_to_a_tenth_of_a_pixel() -> None:
    """Anti-aliasing carries the sub-pixel place: the centre of brightness is the given point."""
    canvas = blank()
    draw_tube(canvas, tube((50.37, 30.81), (50.37, 30.81), 8.0), RED, LIGHT)
    weight = canvas.image_HW3[..., 2]
    rows, columns = np.indices(weight.shape)
    assert (columns * weight).sum() / weight.sum() == pytest.approx(50.37, abs=0.02)
    assert (rows * weight).sum() / weight.sum() == pytest.approx(30.81, abs=0.02)


def test_the_nearer_tube_wins_in_either_order() -> None:
    near, far = tube((20, 50), (120, 50), 8.0, 4.0), tube((70, 10), (70, 90), 8.0, 6.0)
    pictures = []
    for order in ((near, far), (far, near)):
        canvas = blank()
        for each in order:
            colour = (0.0, 0.0, 200.0) if each is near else (0.0, 200.0, 0.0)
            draw_tube(canvas, each, plain(colour), LIGHT)
        assert canvas.image_HW3[50, 70, 2] > 100 and canvas.image_HW3[50, 70, 1] == 0
        assert canvas.image_HW3[20, 70, 1] > 100 and canvas.image_HW3[20, 70, 2] == 0
        assert canvas.depth_HW[50, 70] == pytest.approx(3.9, abs=0.001)
        pictures.append(canvas.depth_HW)
    assert np.array_equal(pictures[0], pictures[1])


def test_what_is_outside_the_canvas_is_not_drawn() -> None:
    canvas = blank()
    draw_tube(canvas, tube((-80.0, 20.0), (-50.0, 20.0), 9.0), RED, LIGHT)
    draw_tube(canvas, tube((50.0, 300.0), (90.0, 300.0), 9.0), RED, LIGHT)
    assert not canvas.image_HW3.any() and np.isinf(canvas.depth_HW).all()


def test_a_skull_is_an_ellipse_however_it_is_turned() -> None:
    """The outline of an ellipsoid has the area pi |p x q| of its two projected half axes."""
    camera = Camera(400.0, (70.0, 50.0))
    half_axes = np.array([0.2, 0.3, 0.25])
    for frame, area_m2 in (
        (np.eye(3), math.pi * 0.2 * 0.3),
        (rotation_y(90), math.pi * 0.25 * 0.3),
        (rotation_x(90), math.pi * 0.2 * 0.25),
        (rotation_y(45), math.pi * math.hypot(0.2, 0.25) / math.sqrt(2) * 0.3),
    ):
        canvas = blank()
        draw_skull(canvas, camera, np.array([0.0, 0.0, 4.0]), frame, half_axes, RED, LIGHT)
        assert np.isfinite(canvas.depth_HW).sum() == pytest.approx(area_m2 * 100**2, rel=0.02)
    assert canvas.depth_HW[50, 70] < 4.0 - 0.19


def test_a_torso_is_wide_from_the_front_and_narrow_from_the_side() -> None:
    camera = Camera(500.0, (70.0, 50.0))
    ends = np.array([0.0, -0.2, 5.0]), np.array([0.0, 0.2, 5.0])
    for degrees, width_m in ((0, 0.2), (90, 0.08), (30, math.hypot(0.2 * 0.75**0.5, 0.08 * 0.5))):
        frame = rotation_y(degrees)
        torso = oval_tube(camera, *ends, (frame, frame), ((0.2, 0.08), (0.2, 0.08)))
        assert list(torso.half_width_px) == pytest.approx([100 * width_m] * 2)
