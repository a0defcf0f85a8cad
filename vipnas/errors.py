"""The error class for everything that a user supplies: files, settings, command-line arguments."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """An input that vipnas cannot use, as one line: `PLACE: expected WHAT, got WHAT (hint)`.

    Args:
        place: Where the input is, such as `tiny.yaml: stages[0].width` or `--device`.
        expected: What is allowed there.
        found: What was given instead, as it should be shown.
        hint: What to do about it, or why it is not allowed. Optional.
    """

    def __init__(self, place: str, expected: str, found: str, hint: str = "") -> None:
        # All four go to `args`, from which pickle rebuilds the error in another process.
        super().__init__(place, expected, found, hint)
        self.place, self.expected, self.found, self.hint = place, expected, found, hint

    @classmethod
    def not_one_of(
        cls,
        place: str,
        known: Iterable[str],
        found: object,
        hint: str = "",
        expected: str = "one of",
    ) -> UserError:
        """Return the error of an unknown name; the nearest known name is the default hint."""
        names = sorted(known)
        hint = hint or nearest(str(found), names)
        return cls(place, f"{expected} {', '.join(names)}", shown(found), hint)

    def inside(self, place: str, separator: str = ": ") -> UserError:
        """Return the same error with `place` in front of its own place."""
        if not self.place or self.place.startswith("["):
            separator = ""
        joined = f"{place}{separator}{self.place}" if place else self.place
        return type(self)(joined, self.expected, self.found, self.hint)

    def __str__(self) -> str:
        hint = f" ({self.hint})" if self.hint else ""
        place = f"{self.place}: " if self.place else ""
        return f"{place}expected {self.expected}, got {self.found}{hint}"


def nearest(found: str, known: Iterable[str]) -> str:
    """Return "did you mean NAME?" for the nearest of the known names; empty if none is near."""
    near = difflib.get_close_matches(found, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else ""


def shown(value: object) -> str:
    """Return the value as an error shows it: its `repr`, cut to 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
