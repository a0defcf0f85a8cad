"""Find left and right in names of joints.

A side is a word (`left_wing`, `LeftWing`, `wing-right`) or a letter at the edge of a word
(`L_wing`, `wing.r`, `lWing`, `LF_paw`, `rwrist`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Literal

from vipnas.errors import UserError

Side = Literal["left", "right"]

# Parts of a name: separators, camel case and digits split it. `frontLPaw2` has four.
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_WORD = re.compile("left|right", re.IGNORECASE)
_OTHER = {"left": "right", "right": "left", "l": "r", "r": "l"}


def side_of(name: str) -> Side | None:
    """Return the side in a name, as a word or as a separate letter, or None."""
    spelled = [match.group().lower() for match in _WORD.finditer(name)]
    spelled += [part.lower() for part in _PART.findall(name) if part.lower() in ("l", "r")]
    if not spelled:
        return None
    return "left" if spelled[0].startswith("l") else "right"


def mirrored_names(name: str) -> list[str]:
    """Return possible names of the joint on the other side, the likeliest first."""
    words = list(_WORD.finditer(name))
    if words:
        one_by_one = [_swapped(name, [word]) for word in words] if len(words) > 1 else []
        return [_swapped(name, words), *one_by_one]
    letters = []
    for part in _PART.finditer(name):
        for start in sorted({part.start(), part.end() - 1}):
            if name[start].lower() in ("l", "r"):
                letters.append(name[:start] + _like(name[start]) + name[start + 1 :])
    return letters


def check_sides(joints: Collection[str], flip_pairs: Iterable[tuple[str, str]], where: str) -> None:
    """Check that joints with a side are paired with their mirror images.

    Wrong pairs would silently teach a network wrong sides. A letter counts as a side only if the
    other spelling is a joint, too: `lip` has no `rip`.

    Raises:
        UserError: A joint with a side has another flip pair, or none.
    """
    place, partner = f"{where}: flip_pairs", dict(flip_pairs)
    partner |= {second: first for first, second in partner.items()}
    for joint in joints:
        mirrors = [name for name in mirrored_names(joint) if name in joints and name != joint]
        paired = partner.get(joint)
        if mirrors and paired not in mirrors:
            found = f"[{joint}, {paired}]" if paired else "no pair"
            raise UserError(place, f"[{joint}, {mirrors[0]}]", found, "or sides: none")
        if not mirrors and paired and (side := side_of(joint)) and side_of(paired) != _OTHER[side]:
            expected = f"{joint} with its mirror image on the {_OTHER[side]}"
            raise UserError(place, expected, f"[{joint}, {paired}]", "or sides: none")


def _swapped(name: str, words: Iterable[re.Match[str]]) -> str:
    for word in sorted(words, key=re.Match.start, reverse=True):
        name = name[: word.start()] + _like(word.group()) + name[word.end() :]
    return name


def _like(side: str) -> str:
    """Return the other side, in the same case."""
    other = _OTHER[side.lower()]
    if side.islower():
        return other
    return other.upper() if side.isupper() else other.capitalize()
