"""Surfaces of synthetic people: cloth, skin and faces, and random looks.

A `Paint` is a function of the position on a surface (see `draw`). Colours are BGR in 0..255.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vipnas.synthetic.body import FACE_POINTS, Matrix
from vipnas.synthetic.draw import Array, Colour, Paint, Tube

SKINS: tuple[Colour, ...] = (
    (172, 196, 236),
    (150, 180, 226),
    (130, 160, 212),
    (104, 140, 196),
    (84, 112, 164),
    (62, 86, 130),
    (42, 58, 92),
    (34, 44, 68),
)
HAIRS: tuple[Colour, ...] = (
    (22, 20, 24),
    (28, 36, 54),
    (40, 62, 98),
    (70, 116, 160),
    (130, 184, 214),
    (150, 152, 156),
    (30, 50, 120),
)
PATTERNS = ("plain", "across", "along", "checks", "mottled")
FRONTS = ("plain", "plain", "v_neck", "buttons", "open_jacket", "logo")


@dataclass(frozen=True)
class Cloth:
    """A colour with a pattern of a second one. `period` is relative to the length of a tube."""

    colour: Colour
    second: Colour
    pattern: str
    period: float


@dataclass(frozen=True)
class Look:
    """Everything about a person except shape and pose."""

    skin: Colour
    hair: Colour
    hair_style: str  # short, long, bun, bald, hat
    hat: Colour
    beard: bool
    glasses: bool
    top: Cloth
    sleeve: str  # none, short, long
    front: str  # one of FRONTS
    bottom: Cloth
    bottom_kind: str  # trousers, shorts, skirt
    shoes: Colour
    backpack: bool
    seat: Colour | None  # of the chair, if the pose is seated


def random_colour(rng: np.random.Generator, vivid: float = 1.0) -> Colour:
    """Sample a colour of any brightness and hue, with a saturation from 0 to `vivid`."""
    value, saturation = rng.uniform(30, 240), vivid * rng.beta(1.2, 2.0)
    hue = rng.uniform(0, 6)
    rgb = np.clip(np.abs((hue + np.array([0.0, 4.0, 2.0])) % 6.0 - 3.0) - 1.0, 0.0, 1.0)
    b, g, r = value * (1.0 - saturation * (1.0 - rgb[::-1]))
    return float(b), float(g), float(r)


def random_cloth(rng: np.random.Generator) -> Cloth:
    pattern = PATTERNS[int(rng.choice(len(PATTERNS), p=(0.6, 0.14, 0.06, 0.08, 0.12)))]
    return Cloth(random_colour(rng), random_colour(rng), pattern, float(rng.uniform(0.12, 0.3)))


def random_look(rng: np.random.Generator) -> Look:
    styles = ("short", "long", "bun", "bald", "hat")
    kinds, sleeves = ("trousers", "shorts", "skirt"), ("none", "short", "long")
    hair_style = styles[int(rng.choice(5, p=(0.45, 0.22, 0.12, 0.08, 0.13)))]
    skin = SKINS[int(rng.integers(len(SKINS)))]
    return Look(
        skin=_vary(rng, skin, 10),
        hair=_vary(rng, HAIRS[int(rng.integers(len(HAIRS)))], 10),
        hair_style=hair_style,
        hat=random_colour(rng),
        beard=hair_style in ("short", "bald", "hat") and rng.random() < 0.3,
        glasses=bool(rng.random() < 0.15),
        top=random_cloth(rng),
        sleeve=sleeves[int(rng.choice(3, p=(0.13, 0.47, 0.4)))],
        front=FRONTS[int(rng.integers(len(FRONTS)))],
        bottom=random_cloth(rng),
        bottom_kind=kinds[int(rng.choice(3, p=(0.6, 0.28, 0.12)))],
        shoes=random_colour(rng),
        backpack=bool(rng.random() < 0.1),
        seat=random_colour(rng, vivid=0.6) if rng.random() < 0.7 else None,
    )


def _vary(rng: np.random.Generator, colour: Colour, amount: float) -> Colour:
    b, g, r = np.clip(np.array(colour) + rng.normal(0, amount, 3), 8, 250)
    return float(b), float(g), float(r)


def _as_array(colour: Colour) -> Array:
    return np.array(colour, dtype=np.float32)


def mix(colour_hw3: Array, other: Colour, share_hw: Array) -> Array:
    """Interpolate between colours, with a weight in 0..1 of the other per pixel."""
    return colour_hw3 + (_as_array(other) - colour_hw3) * share_hw[..., None]


def plain(colour: Colour) -> Paint:
    value = _as_array(colour)
    return lambda along, across, front: np.broadcast_to(value, (*front.shape, 3))


def cloth_paint(cloth: Cloth) -> Paint:
    """Return the paint of a tube in cloth, with faint folds."""

    def paint(along: Array, across: Array, front: Array) -> Array:
        colour = np.broadcast_to(_as_array(cloth.colour), (*front.shape, 3))
        if cloth.pattern != "plain":
            colour = mix(colour, cloth.second, _pattern(cloth, along, across))
        waves = np.sin(13.0 * along + 3.0 * across) * np.sin(7.0 * along - 5.0 * across)
        return (colour * (1.0 + 0.06 * waves)[..., None]).astype(np.float32)

    return paint


def _pattern(cloth: Cloth, along: Array, across: Array) -> Array:
    rings: Array = np.clip(2.5 * np.sin(along * (6.283 / cloth.period)) + 0.5, 0.0, 1.0)
    if cloth.pattern == "across":
        return rings
    stripes: Array = np.clip(2.5 * np.sin(across * (2.2 / cloth.period)) + 0.5, 0.0, 1.0)
    if cloth.pattern == "along":
        return stripes
    if cloth.pattern == "checks":
        return (rings + stripes) * 0.4
    mottled: Array = np.sin(along * (9.0 / cloth.period) + 4.0 * np.sin(across * 6.0))
    return 0.5 + 0.5 * mottled


def chest_paint(look: Look, tube: Tube, frame: Matrix) -> Paint:
    """Return the paint of the chest, with details that tell front from back.

    They are a collar, buttons, an open jacket or a print. The tube extends from the waist (0) to
    the shoulders (1).
    """
    base = cloth_paint(look.top)
    (ax, ay), (bx, by) = tube.start_xy, tube.stop_xy
    length = max(float(np.hypot(bx - ax, by - ay)), 1e-3)
    dx, dy = (bx - ax) / length, (by - ay) / length
    sharp = max(tube.half_width_px)

    def paint(along: Array, across: Array, front: Array) -> Array:
        colour = base(along, across, front)
        # The surface normal in the frame of the chest: to the person's left, and forward.
        left, ahead = (
            across * float(dx * frame[1, way] - dy * frame[0, way]) - front * float(frame[2, way])
            for way in (0, 2)
        )
        middle = np.abs(left)
        for other, inside in _front_details(look, along, middle, ahead):
            colour = mix(colour, other, np.clip(inside * sharp + 0.5, 0.0, 1.0))
        return colour

    return paint


def _front_details(
    look: Look, along: Array, middle: Array, ahead: Array
) -> list[tuple[Colour, Array]]:
    """Return colours and signed distances (above 0 inside) of details of the chest."""
    neck = np.minimum(ahead - 0.2, 0.8 * (along - 0.88) + 0.22 - middle)
    if look.front == "v_neck":
        return [(look.skin, np.minimum(ahead - 0.2, 0.75 * (along - 0.68) - middle))]
    if look.front == "buttons":
        return [(look.top.second, np.minimum(ahead, 0.045 - middle)), (look.skin, neck)]
    if look.front == "open_jacket":
        return [(look.top.second, np.minimum(ahead, 0.33 - middle)), (look.skin, neck)]
    if look.front == "logo":
        square = np.minimum(0.35 - middle, 0.16 - np.abs(along - 0.68))
        return [(look.top.second, np.minimum(ahead - 0.3, square))]
    return [(look.skin, neck - 0.1)]


def face_paint(look: Look, radius_px: float) -> Paint:
    """Return the paint of a skull, on the unit sphere (left, up, forward)."""
    sharp = max(radius_px, 2.5)
    shadow: Colour = (look.skin[0] * 0.64, look.skin[1] * 0.66, look.skin[2] * 0.72)
    lips: Colour = (look.skin[0] * 0.62, look.skin[1] * 0.6, min(look.skin[2] * 0.95, 255.0))

    def paint(left: Array, up: Array, ahead: Array) -> Array:
        colour = np.broadcast_to(_as_array(look.skin), (*left.shape, 3))
        side = np.abs(left)
        eye_x, eye_y = side - FACE_POINTS["left_eye"][0], up - FACE_POINTS["left_eye"][1]
        eye = np.hypot(eye_x, 1.6 * eye_y)
        details: list[tuple[Colour, Array]] = [
            (shadow, 0.29 - np.hypot(eye_x, eye_y)),
            ((225, 228, 230), 0.19 - eye),
            ((28, 26, 30), 0.12 - np.hypot(eye_x, eye_y)),
            (look.hair, np.minimum(0.045 - np.abs(up - 0.36), 0.2 - np.abs(eye_x))),
            (lips, np.minimum(0.08 - np.abs(up + 0.52), 0.3 - side)),
        ]
        if look.beard:
            chin = np.minimum(-0.28 - up + 0.25 * side, np.abs(up + 0.52) - 0.06)
            details.append((look.hair, chin))
        if look.glasses:
            details.append(((20, 20, 20), 0.045 - np.abs(np.hypot(eye_x, eye_y) - 0.24)))
        for other, inside in details:
            inside = np.minimum(inside, ahead - 0.05)
            colour = mix(colour, other, np.clip(inside * sharp + 0.5, 0.0, 1.0))
        for other, inside in _hair_details(look, left, up, ahead):
            colour = mix(colour, other, np.clip(inside * sharp + 0.5, 0.0, 1.0))
        return colour

    return paint


def _hair_details(look: Look, left: Array, up: Array, ahead: Array) -> list[tuple[Colour, Array]]:
    if look.hair_style == "bald":
        return []
    low = -0.95 if look.hair_style == "long" else -0.4
    back = np.minimum(0.12 - ahead, up - low)
    # Keep the ear and the skin in front of it free.
    if look.hair_style != "long":
        back = np.minimum(back, np.hypot(ahead - 0.05, up + 0.1) - 0.28)
    hair = [(look.hair, np.maximum(up - 0.56 - 0.1 * left, back))]
    return [*hair, (look.hat, up - 0.42)] if look.hair_style == "hat" else hair
