"""Numbers of the command line, in the ranges that a run can use."""

from __future__ import annotations

import argparse
import math


def count(text: str) -> int:
    """Parse a whole number from 1."""
    return _whole_number(text, 1)


def seed_number(text: str) -> int:
    """Parse a whole number from 0."""
    return _whole_number(text, 0)


def _whole_number(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"expected a whole number from {least}, got {text!r}")
    return int(text)


def finite_number(text: str) -> float:
    """Parse a number that is neither infinite nor NaN."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"expected a finite number, got {text!r}")
    return value


def positive_number(text: str) -> float:
    """Parse a finite number above 0."""
    if (value := finite_number(text)) <= 0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def thread_count(text: str) -> int:
    """Parse a number of threads."""
    from vipnas.config.limits import MAX_THREADS

    if not text.isdecimal() or not 1 <= int(text) <= MAX_THREADS:
        expected = f"a whole number from 1 to {MAX_THREADS}"
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
    return int(text)
