"""Surroundings of synthetic people: background, clutter, occluding objects, light."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from vipnas.synthetic.draw import NOBODY, THING, Array, Canvas, Colour, Light, Tube, draw_tube
from vipnas.synthetic.paint import SKINS, cloth_paint, plain, random_cloth, random_colour
from vipnas.synthetic.sensor import enlarge

Image = NDArray[np.uint8]
SHIFT = 4  # OpenCV takes corners of polygons in sixteenths of a pixel

MAX_OBJECTS = 9
MAX_DISTRACTORS = 5


def random_light(rng: np.random.Generator) -> Light:
    """Sample a lamp above and in front of the scene, more or less diffuse."""
    direction = np.array([rng.uniform(-1, 1), rng.uniform(-1.0, -0.1), rng.uniform(-1.2, -0.3)])
    x, y, z = direction / np.linalg.norm(direction)
    return Light((float(x), float(y), float(z)), float(rng.uniform(0.45, 0.8)))


def background(
    rng: np.random.Generator, image_hw: tuple[int, int], light: Light, difficulty: float = 1.0
) -> Array:
    """Sample a background: sky or wall, floor, objects, shapes that look like limbs, and blur.

    Args:
        rng: Source of randomness.
        image_hw: Height and width.
        light: Light of the scene.
        difficulty: 0 keeps a third of the objects and no limbs, 1 keeps all.
    """
    image = _backdrop(rng, image_hw)
    for _ in range(round(rng.integers(0, MAX_OBJECTS) * (1.0 + 2.0 * difficulty) / 3.0)):
        OBJECTS[int(rng.integers(len(OBJECTS)))](rng, image)
    canvas = Canvas(image.astype(np.float32))
    for _ in range(round(rng.integers(0, MAX_DISTRACTORS) * difficulty)):
        _limb_like(rng, canvas, light)
    sigma_px = float(rng.uniform(-0.8, 2.0))
    if sigma_px > 0.3:
        return np.asarray(cv2.GaussianBlur(canvas.image_HW3, (0, 0), sigma_px), dtype=np.float32)
    return canvas.image_HW3


def _backdrop(rng: np.random.Generator, image_hw: tuple[int, int]) -> Image:
    """Draw a wall or sky, mostly with a floor or field below."""
    height, width = image_hw
    image = _surface(rng, (height, width))
    horizon = int(height * rng.uniform(0.35, 0.9))
    if rng.random() < 0.8:
        image[horizon:] = _surface(rng, (height - horizon, width))
    if rng.random() < 0.3:
        _tiles(rng, image, 0 if rng.random() < 0.5 else horizon)
    return np.clip(image, 0, 255).astype(np.uint8)


def _surface(rng: np.random.Generator, image_hw: tuple[int, int]) -> Array:
    """Draw one colour with a slow gradient and grain of several sizes."""
    height, width = image_hw
    colour = np.array(random_colour(rng, vivid=0.45)) * 0.9
    slow = rng.normal(0, 12, (int(rng.integers(2, 4)), int(rng.integers(2, 4)), 1))
    image = enlarge(colour + slow + rng.normal(0, 4, (*slow.shape[:2], 3)), image_hw)
    for cell_px in (2, 5, 16):
        strength = rng.uniform(0, 11) if rng.random() < 0.5 else 0.0
        # Stretched cells look like wood, grass or brushed plaster.
        tall, wide = cell_px * rng.choice([1, 1, 5]), cell_px * rng.choice([1, 1, 5])
        grain = rng.normal(0, strength, (height // int(tall) + 2, width // int(wide) + 2, 1))
        image += enlarge(grain, image_hw)[..., None]
    return image


def _tiles(rng: np.random.Generator, image: Array, top: int) -> None:
    """Draw the joints of tiles, bricks or boards."""
    height, width = image.shape[:2]
    change = float(rng.uniform(-35, 35))
    for y in range(top, height, int(rng.integers(9, 40))):
        image[y : y + 1] += change
    for x in range(int(rng.integers(0, 9)), width, int(rng.integers(12, 60))):
        image[top:, x : x + 1] += change


def _polygon(image: Image, corners_xy: NDArray[np.float64], colour: Colour) -> None:
    fixed = np.round(corners_xy * (1 << SHIFT)).astype(np.int32)
    cv2.fillPoly(image, [fixed], colour, cv2.LINE_AA, SHIFT)


def _rectangle(x: float, y: float, width: float, height: float) -> NDArray[np.float64]:
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])


def _place(rng: np.random.Generator, image: Image) -> tuple[float, float, float]:
    """Sample a position (x, y) and a length, in pixels."""
    height, width = image.shape[:2]
    length = float(height * np.exp(rng.uniform(np.log(0.08), np.log(0.6))))
    return float(rng.uniform(-0.1, 1) * width), float(rng.uniform(-0.1, 0.95) * height), length


def _darker(colour: Colour, share: float) -> Colour:
    return colour[0] * share, colour[1] * share, colour[2] * share


def _box(rng: np.random.Generator, image: Image) -> None:
    """Draw a cupboard, crate or block: a front, a top and a side face."""
    x, y, size = _place(rng, image)
    wide, tall, deep = size * rng.uniform(0.4, 1.6), size, size * rng.uniform(0.1, 0.4)
    slant = deep if rng.random() < 0.5 else -deep
    colour = random_colour(rng)
    top = np.array([[x, y], [x + wide, y], [x + wide + slant, y - deep], [x + slant, y - deep]])
    edge = x + wide if slant > 0 else x
    far_edge = edge + slant
    side = np.array(
        [[edge, y], [far_edge, y - deep], [far_edge, y + tall - deep], [edge, y + tall]]
    )
    _polygon(image, top, _darker(colour, 1.15))
    _polygon(image, side, _darker(colour, 0.6))
    _polygon(image, _rectangle(x, y, wide, tall), colour)
    for _ in range(int(rng.integers(0, 4))):
        line = y + tall * rng.uniform(0.1, 0.9)
        _polygon(image, _rectangle(x + 1, line, wide - 2, 1.2), _darker(colour, 0.7))


def _frame(rng: np.random.Generator, image: Image) -> None:
    """Draw a window, door or picture, with panes."""
    x, y, size = _place(rng, image)
    wide = size * rng.uniform(0.4, 1.5)
    rim, glass = random_colour(rng), random_colour(rng)
    _polygon(image, _rectangle(x, y, wide, size), rim)
    columns, rows = (int(count) for count in rng.integers(1, 4, 2))
    bar = max(size * 0.05, 1.0)
    for column in range(columns):
        for row in range(rows):
            pane = _rectangle(
                x + bar + column * wide / columns,
                y + bar + row * size / rows,
                wide / columns - 2 * bar,
                size / rows - 2 * bar,
            )
            _polygon(image, pane, glass)


def _pole(rng: np.random.Generator, image: Image) -> None:
    """Draw a lamp post, rail or beam across the whole picture."""
    height, width = image.shape[:2]
    thick, colour = float(rng.uniform(1.5, 12)), random_colour(rng)
    lean = float(rng.normal(0, 0.06))
    if rng.random() < 0.65:
        x = float(rng.uniform(0, width))
        start, stop = (x, -5.0), (x + lean * height, height + 5.0)
        across = np.array([thick, 0.0])
    else:
        y = float(rng.uniform(0, height))
        start, stop = (-5.0, y), (width + 5.0, y + lean * width)
        across = np.array([0.0, thick])
    _polygon(image, np.array([start, stop, stop + across, start + across]), colour)
    _polygon(
        image, np.array([start, stop, stop + across / 3, start + across / 3]), _darker(colour, 1.25)
    )


def _foliage(rng: np.random.Generator, image: Image) -> None:
    """Draw a tree, bush or heap: overlapping blobs, some with a trunk."""
    x, y, size = _place(rng, image)
    colour = random_colour(rng) if rng.random() < 0.3 else _green(rng)
    if rng.random() < 0.5:
        trunk = _rectangle(x - size * 0.06, y, size * 0.12, size * 1.6)
        _polygon(image, trunk, (45.0, 62.0, 84.0))
    for _ in range(int(rng.integers(6, 22))):
        centre = np.array([x, y]) + rng.normal(0, 0.28 * size, 2)
        axes = size * rng.uniform(0.06, 0.25, 2)
        angle = rng.uniform(0, 2 * np.pi) + np.arange(9) * (2 * np.pi / 9)
        ring = centre + np.stack((np.cos(angle), np.sin(angle)), axis=1) * axes
        _polygon(image, ring, _darker(colour, float(rng.uniform(0.6, 1.3))))


def _green(rng: np.random.Generator) -> Colour:
    return float(rng.uniform(20, 70)), float(rng.uniform(70, 150)), float(rng.uniform(30, 110))


def _shard(rng: np.random.Generator, image: Image) -> None:
    """Draw a random polygon, such as a roof, a poster or a shadow."""
    x, y, size = _place(rng, image)
    angle = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 7))))
    ring = np.stack((np.cos(angle), np.sin(angle)), axis=1) * size * rng.uniform(0.4, 1.0)
    _polygon(image, np.array([x, y]) + ring, random_colour(rng))


OBJECTS: tuple[Callable[[np.random.Generator, Image], None], ...] = (
    _box,
    _box,
    _frame,
    _pole,
    _foliage,
    _shard,
)


def _limb_like(rng: np.random.Generator, canvas: Canvas, light: Light) -> None:
    """Draw a chain of one to three tubes in colours of skin or cloth, without a person."""
    height, width = canvas.depth_HW.shape
    point = rng.uniform((0, 0), (width, height))
    thick = float(rng.uniform(0.01, 0.04) * height)
    skin = SKINS[int(rng.integers(len(SKINS)))]
    paint = plain(skin) if rng.random() < 0.5 else cloth_paint(random_cloth(rng))
    angle = rng.uniform(0, 2 * np.pi)
    canvas.begin(NOBODY)
    for depth in range(int(rng.integers(1, 4))):
        angle, length = angle + rng.uniform(-1.8, 1.8), rng.uniform(0.06, 0.22) * height
        other = point + length * np.array([np.cos(angle), np.sin(angle)])
        widths = (thick, thick * float(rng.uniform(0.6, 1.0)))
        ends = [(float(x), float(y)) for x, y in (point, other)]
        tube = Tube(ends[0], ends[1], widths, widths, (-depth, -depth), (0.1, 0.1))
        draw_tube(canvas, tube, paint, light)
        point, thick = other, widths[1]


def occlude(
    rng: np.random.Generator, canvas: Canvas, box_xywh: tuple[float, float, float, float]
) -> None:
    """Draw an object (table, board, post, bush) over a part of a person's box."""
    x, y, width, height = box_xywh
    sheet = np.zeros((*canvas.depth_HW.shape, 3), dtype=np.uint8)
    image_height = canvas.depth_HW.shape[0]
    kind, colour = rng.random(), random_colour(rng)
    white = (255.0, 255.0, 255.0)
    if kind < 0.4:  # from below: a table or a wall
        top = y + height * rng.uniform(0.55, 0.85)
        reach = width * rng.uniform(0.3, 1.2)
        _polygon(sheet, _rectangle(x + width / 2 - reach, top, 2 * reach, image_height), white)
    elif kind < 0.7:  # a post
        thick = width * rng.uniform(0.08, 0.25)
        left = x + width * rng.uniform(0, 1) - thick / 2
        _polygon(sheet, _rectangle(left, -5, thick, image_height + 10), white)
    else:  # a bush or bag
        centre = np.array([x + width * rng.uniform(0, 1), y + height * rng.uniform(0.4, 1.0)])
        for _ in range(7):
            angle = rng.uniform(0, 2 * np.pi) + np.arange(10) * (2 * np.pi / 10)
            ring = np.stack((np.cos(angle), np.sin(angle)), axis=1)
            ring = ring * height * rng.uniform(0.05, 0.14, 2)
            _polygon(sheet, centre + rng.normal(0, height * 0.06, 2) + ring, white)
    canvas.begin(THING)
    window = (slice(None), slice(None))
    grain = enlarge(rng.normal(0, 12, (24, 32, 1)), canvas.depth_HW.shape)[..., None]
    cover = sheet[..., 0].astype(np.float32) / 255.0
    canvas.blend(window, cover, np.zeros_like(cover), np.array(colour, dtype=np.float32) + grain, 0)
