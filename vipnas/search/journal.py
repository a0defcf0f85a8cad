"""The journal of a search: one line per trial, written before the searcher is told. No torch here.

It is the history, the file to resume from and the source of plots. The first line holds the
settings of the search. Lines are in the order of completion; every trial has its number.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vipnas.errors import UserError, shown
from vipnas.files import check_version, parse, to_plain, write_atomically
from vipnas.search.trial import Trial
from vipnas.settings import check_settings

log = logging.getLogger(__name__)

# A file of an earlier version may lack fields that came later: they have defaults.
VERSION = 1
OTHER_SEARCH = "choose another --name or --output, or remove the folder"


class Journal:
    """The file `trials.jsonl`.

    Attributes:
        path: The file.
        trials: All trials in the file, in the order of its lines.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        """Open or create a journal.

        An incomplete last line, which a kill leaves behind, is dropped with a warning.

        Args:
            path: The file.
            settings: Everything that trials depend on, as plain values.

        Raises:
            UserError: If the journal has other settings or another version, or if a line is broken
                or a trial is in it twice.
        """
        self.path = path
        lines = _whole_lines(path) if path.exists() else []
        if not lines:
            header = {"version": VERSION, "settings": settings}
            write_atomically(path, json.dumps(header, sort_keys=True) + "\n")
        else:
            found = _settings_in(json.loads(lines[0]), path)
            check_settings(found, settings, path, OTHER_SEARCH)
        self.trials = _trials_in(lines, path)
        self._drop_incomplete_line()

    def append(self, trial: Trial) -> None:
        """Write one line and wait until it is on the disk.

        Raises:
            OSError: If that fails, for example on a full disk. The file is then as before.
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
                reason = f"{self.path}: trial not written ({error}); run the same command again"
                raise OSError(reason) from None
        self.trials.append(trial)

    def _drop_incomplete_line(self) -> None:
        """Only of a journal that is accepted: an error leaves the file as it is."""
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if incomplete := len(content) - len(whole):
            log.warning("%s: dropped an incomplete last line of %d bytes", self.path, incomplete)
            write_atomically(self.path, whole)


def read_journal(path: Path) -> tuple[dict[str, Any], list[Trial]]:
    """Read the settings and the trials of a journal, which stays as it is.

    An incomplete last line is left out, because a search may be at work.

    Raises:
        UserError: If it is no journal of this version, or has broken or repeated lines.
    """
    lines = _whole_lines(path)
    header = json.loads(lines[0]) if lines else None
    return _settings_in(header, path), _trials_in(lines, path)


def _whole_lines(path: Path) -> list[bytes]:
    *lines, _ = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            json.loads(line)
        except ValueError:
            place = f"{path}: line {number}"
            raise UserError(place, "valid JSON", shown(line.decode(errors="replace"))) from None
    return lines


def _trials_in(lines: Sequence[bytes], path: Path) -> list[Trial]:
    trials = [
        parse(Trial, json.loads(line), f"{path}: line {number}")
        for number, line in enumerate(lines[1:], start=2)
    ]
    lines_of = Counter((trial.method, trial.number) for trial in trials)
    for (method, number), count in lines_of.items():
        if count > 1:
            hint = "two searches wrote to the same folder; remove it"
            raise UserError(f"{path}: {method} trial {number}", "one line", str(count), hint)
    return trials


def _settings_in(header: Any, path: Path) -> dict[str, Any]:
    """Return the settings of a first line, of this version or an earlier one."""
    if not isinstance(header, dict) or not isinstance(header.get("settings"), dict):
        raise UserError(f"{path}: line 1", "the keys version and settings", shown(header))
    check_version(header.get("version"), VERSION, path)
    settings: dict[str, Any] = header["settings"]
    return settings
