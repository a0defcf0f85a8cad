"""The history of a search: one line a trial, on disk before it is told. No torch here.

History, resume file and source of plots in one. The first line holds the settings that the trials
were made with. Lines stand in the order in which the scores came in; each trial has its number.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from pathlib import Path
from typing import Any

from vipnas.files import check_version, parse, to_plain, write_atomically
from vipnas.search.trial import Trial
from vipnas.settings import check_settings

log = logging.getLogger(__name__)

# A file of an earlier version may lack fields that came later: they have defaults.
VERSION = 1
OTHER_SEARCH = "choose another --name or --output, or remove the folder"


class Journal:
    """`trials.jsonl`: what is in it when it is opened are the `trials`; new ones are appended."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        """Open or start a journal.

        A last line that a kill tore is dropped with a warning. Raises ValueError for other
        settings, a later version, a broken line before the last or a trial that is there twice.
        """
        self.path = path
        lines = self._whole_lines() if path.exists() else []
        if not lines:
            header = {"version": VERSION, "settings": settings}
            write_atomically(path, json.dumps(header, sort_keys=True) + "\n")
        else:
            found = _settings_in(json.loads(lines[0]), path)
            check_settings(found, settings, path, OTHER_SEARCH)
        self.trials = [
            parse(Trial, json.loads(line), f"{path}: line {number}")
            for number, line in enumerate(lines[1:], start=2)
        ]
        lines_of = Counter((trial.method, trial.number) for trial in self.trials)
        for (method, number), count in lines_of.items():
            if count > 1:
                raise ValueError(
                    f"{path}: {method} trial {number} is there {count} times, allowed is once; two"
                    " searches wrote into one folder: remove it"
                )

    def append(self, trial: Trial) -> None:
        """Write one line and wait until it is on the disk.

        Raises OSError if that fails, on a full disk say; the file is then as it was before.
        """
        line = json.dumps(to_plain(trial), sort_keys=True).encode() + b"\n"
        with self.path.open("ab", buffering=0) as file:
            end = file.tell()
            try:
                written = 0
                while written < len(line):
                    written += file.write(line[written:])
                os.fsync(file.fileno())
            except OSError as error:
                file.truncate(end)
                reason = f"{self.path}: trial not written, run the same command again: {error}"
                raise OSError(reason) from None
        self.trials.append(trial)

    def _whole_lines(self) -> list[bytes]:
        content = self.path.read_bytes()
        lines = content.split(b"\n")
        torn = lines.pop()
        if torn:
            log.warning("%s: dropped a torn last line of %d bytes", self.path, len(torn))
            write_atomically(self.path, content[: len(content) - len(torn)])
        for number, line in enumerate(lines, start=1):
            try:
                json.loads(line)
            except ValueError:
                raise ValueError(f"{self.path}: line {number} is not valid JSON") from None
        return lines


def _settings_in(header: Any, path: Path) -> dict[str, Any]:
    """The settings of a first line, of this version or an earlier one."""
    if not isinstance(header, dict) or not isinstance(header.get("settings"), dict):
        raise ValueError(f"{path}: line 1: expected settings, got none")
    check_version(header.get("version"), VERSION, path)
    settings: dict[str, Any] = header["settings"]
    return settings
