"""Signals that end a command as Ctrl-C does."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Not all of them exist everywhere.
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


@contextmanager
def ended_by_signals(hint: str) -> Iterator[None]:
    """Raise KeyboardInterrupt in the block at the first SIGINT, SIGTERM or SIGHUP.

    Those that follow are ignored, so that files can be completed. Signals that the process already
    ignores, as under nohup, stay ignored. In another thread than the main one nothing changes.

    Args:
        hint: The text of the KeyboardInterrupt.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    known = [signal.Signals[name] for name in SIGNALS if name in signal.Signals.__members__]
    before = {number: signal.getsignal(number) for number in known}
    listened = [number for number in known if before[number] is not signal.SIG_IGN]

    def end(_: int, __: FrameType | None) -> None:
        for number in listened:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt(hint)

    for number in listened:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in listened:
            signal.signal(number, before[number])
