"""Log the images that `--skip-bad-images` leaves out, and list them at the end."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


def log_skipped(problem: str, message: str, *values: object) -> None:
    """Log a warning about an image that was left out.

    Args:
        problem: The path of the image and what is wrong with it.
        message: The warning, as `logging` formats it with `values`.
    """
    log.warning(message, *values, extra={"skipped_image": problem})


@contextmanager
def listed_at_the_end() -> Iterator[list[str]]:
    """Collect the problems of images that are left out in this context, each once."""
    collector = _Collector()
    log.addHandler(collector)
    try:
        yield collector.problems
    finally:
        log.removeHandler(collector)


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.problems: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        problem: str = record.skipped_image  # type: ignore[attr-defined]
        if problem not in self.problems:
            self.problems.append(problem)
