"""Changes that turn a valid input into one that is nearly valid.

All draw from a `random.Random`, so that a seed repeats them and hypothesis can shrink them.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

STRANGE_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 7, 1.5, -0.5, 1e39, 1e308, 10**30),
    *(float("nan"), float("inf"), "", "0", "1", "x", "nan", "5.0e6", "2026-11-29"),
    *([], [1], [[]], [None], {}, {"a": 1}, "\x00", "ü\ud800", "../x", "*"),
)
STRANGE_ARGUMENTS = (
    "",
    "-",
    "--",
    "-1",
    "0",
    "x",
    "nan",
    "1e9",
    "none.json",
    ".",
    "..",
    "ü",
    "a b",
)
STRANGE_BYTES = (
    b"",
    b"\x00",
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"PK\x03\x04",
    b"{",
    b"\xef\xbb\xbf",
)

Path = tuple[Any, ...]


def changed_document(document: Any, rng: random.Random) -> Any:
    """Change one to three places: another value, one less, one twice, a number as a string."""
    changed = copy.deepcopy(document)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(changed))
        shallow = [place for place in places if len(place) <= 3]
        place = rng.choice(shallow if rng.random() < 0.5 else places)
        if not place:
            if rng.random() < 0.1:
                return copy.deepcopy(rng.choice(STRANGE_VALUES))
            continue
        _change(changed, place, rng)
    return changed


def changed_text(text: str, rng: random.Random) -> str:
    """Change the document where the text is JSON, otherwise its characters."""
    try:
        return as_json(changed_document(json.loads(text), rng)).decode("utf-8", "surrogatepass")
    except ValueError:
        return changed_bytes(text.encode(), rng).decode("utf-8", "replace")


def changed_bytes(content: bytes, rng: random.Random) -> bytes:
    """Cut, zero, flip, insert or double a part."""
    if not content or rng.random() < 0.05:
        return rng.choice(STRANGE_BYTES)
    start = rng.randrange(len(content))
    stop = min(len(content), start + 1 + rng.randrange(64))
    part = content[start:stop]
    new = rng.choice(
        (
            b"",
            bytes(len(part)),
            bytes(byte ^ 1 << rng.randrange(8) for byte in part[:1]) + part[1:],
            rng.choice(STRANGE_BYTES) + part,
            part + part,
        )
    )
    rest = b"" if rng.random() < 0.3 else content[stop:]
    return content[:start] + new + rest


def changed_arguments(
    arguments: Sequence[str], known: Sequence[str], rng: random.Random
) -> list[str]:
    """Replace, drop, double, swap or add arguments; the command, which is first, mostly stays."""
    changed = list(arguments)
    for _ in range(rng.choice((1, 1, 2))):
        place = (
            rng.randrange(len(changed)) if rng.random() < 0.1 else rng.randrange(1, len(changed))
        )
        action = rng.randrange(5)
        if action == 0:
            changed[place] = rng.choice(STRANGE_ARGUMENTS)
        elif action == 1 and len(changed) > 2:
            del changed[place]
        elif action == 2:
            changed.insert(place, changed[place])
        elif action == 3:
            other = rng.randrange(len(changed))
            changed[place], changed[other] = changed[other], changed[place]
        else:
            changed.insert(place, rng.choice((*known, *STRANGE_ARGUMENTS)))
    return changed


def as_json(document: Any) -> bytes:
    """Return JSON, with NaN and lone surrogates as other programs write them."""
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")


def as_yaml(document: Any) -> bytes:
    return yaml.safe_dump(document).encode()


def _places(document: Any, place: Path = ()) -> Iterator[Path]:
    yield place
    if isinstance(document, dict):
        for key, value in document.items():
            yield from _places(value, (*place, key))
    elif isinstance(document, list):
        for number, value in enumerate(document):
            yield from _places(value, (*place, number))


def _change(document: Any, place: Path, rng: random.Random) -> None:
    *parents, last = place
    holder = document
    for key in parents:
        holder = holder[key]
    action = rng.random()
    if action < 0.6:
        holder[last] = copy.deepcopy(rng.choice(STRANGE_VALUES))
    elif action < 0.75:
        del holder[last]
    elif action < 0.85 and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[last]))
    elif isinstance(holder[last], (int, float)):
        scaled = (str(holder[last]), -holder[last], holder[last] * 1000, holder[last] / 7)
        holder[last] = rng.choice(scaled)
