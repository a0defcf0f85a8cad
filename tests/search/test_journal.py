"""The history of a search: what a kill leaves of it is read, what is not its own is refused."""

from __future__ import annotations

import errno
import json
import logging
import os
import resource
from pathlib import Path
from typing import Any

import pytest
from errors_fixture import refused
from search_fixture import trial

from vipnas.search.journal import Journal
from vipnas.space.image import SearchSpace

SETTINGS = {"seed": 1, "search": {"pending": 9}}


@pytest.fixture
def path(tmp_path: Path, tiny_space: SearchSpace) -> Path:
    """A journal of three trials, one of them a failure."""
    path = tmp_path / "search" / "trials.jsonl"
    journal = Journal(path, SETTINGS)
    journal.append(trial(0, tiny_space.min_arch(), 1 / 3))
    journal.append(trial(1, tiny_space.max_arch(), None))
    journal.append(trial(0, tiny_space.max_arch(), 0.5, "evolution"))
    return path


def test_what_was_written_is_read_again_exactly(path: Path, tiny_space: SearchSpace) -> None:
    assert Journal(path, SETTINGS).trials == [
        trial(0, tiny_space.min_arch(), 1 / 3),
        trial(1, tiny_space.max_arch(), None),
        trial(0, tiny_space.max_arch(), 0.5, "evolution"),
    ]


def test_every_line_is_json_and_the_file_grows_by_lines(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) == 4
    assert json.loads(lines[0]) == {"version": 1, "settings": SETTINGS}
    assert json.loads(lines[1])["score"] == 1 / 3
    before = path.read_bytes()
    journal = Journal(path, SETTINGS)
    journal.append(journal.trials[0])
    assert path.read_bytes().startswith(before)


def test_cut_anywhere_it_holds_the_whole_lines_before(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What a kill or a full disk leaves: any beginning of the file."""
    whole, trials = path.read_bytes(), Journal(path, SETTINGS).trials
    header = whole.index(b"\n") + 1
    for length in [0, 1, header - 1, *range(header, len(whole) + 1, 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        journal = Journal(path, SETTINGS)
        kept = whole[:length].count(b"\n")
        assert journal.trials == trials[: max(0, kept - 1)]
        # And it goes on from there as if nothing had happened.
        for missing in trials[len(journal.trials) :]:
            journal.append(missing)
        assert path.read_bytes() == whole
        assert Journal(path, SETTINGS).trials == trials


def test_a_torn_line_is_dropped_with_a_warning(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(path.read_bytes()[:-10])
    with caplog.at_level(logging.WARNING):
        Journal(path, SETTINGS)
    (record,) = caplog.records
    assert "dropped an incomplete last line of" in record.getMessage()
    caplog.clear()
    Journal(path, SETTINGS)
    assert not caplog.records


def test_a_torn_line_stays_where_the_journal_is_refused(path: Path) -> None:
    torn = path.read_bytes()[:-10]
    path.write_bytes(torn)
    with pytest.raises(ValueError, match="seed"):
        Journal(path, {**SETTINGS, "seed": 99})
    assert path.read_bytes() == torn


def replace_line(path: Path, number: int, line: str) -> None:
    lines = path.read_text().splitlines()
    lines[number - 1] = line
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("number", "line", "fields"),
    [
        (2, '{"number": 0, "met', ("line 2", "valid JSON")),
        (4, "", ("line 4", "valid JSON", "''")),
        (1, "{}", ("line 1", "the keys version and settings", "{}")),
        (1, "[1]", ("line 1", "the keys version and settings", "[1]")),
        (1, '{"version": 2, "settings": {}}', ("version", "1 or lower", "2", "update")),
        (3, "3", ("line 3", "an object", "3")),
        (3, '{"number": 0}', ("line 3: method", "a value", "none")),
        (3, '{"number": 0, "colour": 1}', ("line 3", "the keys", "'colour'")),
    ],
)
def test_a_broken_line_before_the_end_is_an_error_that_names_it(
    path: Path, number: int, line: str, fields: tuple[str, ...]
) -> None:
    replace_line(path, number, line)
    before = path.read_bytes()
    with refused(f"{path}: {fields[0]}", *fields[1:]):
        Journal(path, SETTINGS)
    assert path.read_bytes() == before


def test_bytes_that_are_no_text_are_an_error_that_names_the_line(path: Path) -> None:
    lines = path.read_bytes().split(b"\n")
    lines[2] = b"\xff\xfe\x00"
    path.write_bytes(b"\n".join(lines))
    with refused(f"{path}: line 3", "valid JSON"):
        Journal(path, SETTINGS)


@pytest.mark.parametrize(
    ("settings", "fields"),
    [
        ({**SETTINGS, "seed": 2}, ("seed", "1", "2", "choose another --name or --output")),
        ({**SETTINGS, "search": {"pending": 8}}, ("search.pending", "9", "8")),
        ({**SETTINGS, "device": "cpu"}, ("device", "null", '"cpu"')),
        ({"seed": 1}, ("search", '{"pending": 9}', "null")),
    ],
)
def test_another_search_is_refused_and_the_file_left_alone(
    path: Path, settings: dict[str, Any], fields: tuple[str, ...]
) -> None:
    before = path.read_bytes()
    with refused(f"{path}: {fields[0]}", *fields[1:]):
        Journal(path, settings)
    assert path.read_bytes() == before


def test_a_full_disk_leaves_the_file_as_it_was(path: Path, tiny_space: SearchSpace) -> None:
    """The limit of a file's size makes the system write a part of the line, and then refuse."""
    journal, whole = Journal(path, SETTINGS), path.read_bytes()
    line = trial(7, tiny_space.min_arch())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in (0, 1, 100):
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + room, limits[1]))
        try:
            with pytest.raises(
                OSError, match="trial not written .*; run the same command"
            ) as error:
                journal.append(line)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
        assert path.read_bytes() == whole and len(journal.trials) == 3
    journal.append(line)
    assert Journal(path, SETTINGS).trials[3:] == [line]


def test_a_line_that_cannot_be_put_on_the_disk_is_taken_back(
    path: Path, tiny_space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    journal, whole = Journal(path, SETTINGS), path.read_bytes()
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        journal.append(trial(7, tiny_space.min_arch()))
    assert path.read_bytes() == whole


def test_a_trial_that_is_there_twice_is_refused(path: Path) -> None:
    journal = Journal(path, SETTINGS)
    journal.append(journal.trials[2])
    with refused(f"{path}: evolution trial 0", "one line", "2", "two searches"):
        Journal(path, SETTINGS)


def test_lines_of_before_workers_were_known_are_read(path: Path) -> None:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines[1:]:
        for name in ("generation", "parents", "worker", "retried"):
            del line[name]
    trials = Journal(path, SETTINGS).trials
    path.write_text("".join(json.dumps(line, sort_keys=True) + "\n" for line in lines))
    assert Journal(path, SETTINGS).trials == trials
