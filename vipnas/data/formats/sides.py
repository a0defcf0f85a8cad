"""Left and right in the names of joints, as the usual spellings have them.

A side is a word (`left_wing`, `LeftWing`, `wing-right`) or a letter at the edge of a word
(`L_wing`, `wing.r`, `lWing`, `LF_paw`, `rwrist`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Literal

Side = Literal["left", "right"]

# Parts of a name between separators, humps of camel case and digits: `frontLPaw2` has four.
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_WORD = re.compile("left|right", re.IGNORECASE)
_OTHER = {"left": "right", "right": "left", "l": "r", "r": "l"}


def side_of(name: str) -> Side | None:
    """Return the side that a name spells out, as a word or as a letter that stands alone."""
    spelled = [match.group().lower() for match in _WORD.finditer(name)]
    spelled += [part.lower() for part in _PART.findall(name) if part.lower() in ("l", "r")]
    if not spelled:
        return None
    return "left" if spelled[0].startswith("l") else "right"


def mirrored_names(name: str) -> list[str]:
    """Return how the joint of the other side may be called, the likeliest spelling first."""
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
    """Raise ValueError for a joint with a side that is in no flip pair with its mirror image.

    A network would learn wrong sides without a word. Whether a letter is a side shows in that the
    other spelling is a joint, too: `lip` has no `rip`.
    """
    partner = dict(flip_pairs)
    partner |= {second: first for first, second in partner.items()}
    for joint in joints:
        mirrors = [name for name in mirrored_names(joint) if name in joints and name != joint]
        paired = partner.get(joint)
        if mirrors and paired not in mirrors:
            raise ValueError(
                f"{where}: flip_pairs: expected [{joint}, {mirrors[0]}], got "
                f"{f'[{joint}, {paired}]' if paired else 'no pair'} (or sides: none)"
            )
        if not mirrors and paired and (side := side_of(joint)) and side_of(paired) != _OTHER[side]:
            raise ValueError(
                f"{where}: flip_pairs: expected {joint} with its mirror image on the "
                f"{_OTHER[side]}, got [{joint}, {paired}] (or sides: none)"
            )


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
