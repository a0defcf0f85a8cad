"""Settings by content: digests, and what differs in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from errors_fixture import refused

from vipnas import settings
from vipnas.settings import check_settings, content_digest, first_setting, listing_digest


def test_a_file_is_read_once_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "annotations.json"
    path.write_text("one")
    first = content_digest(path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda _: pytest.fail("read again"))
        assert content_digest(path) == first
    path.write_text("another")
    assert content_digest(path) != first
    (tmp_path / "moved.json").write_text("one")
    assert content_digest(tmp_path / "moved.json") == first


def test_a_list_of_files_is_known_by_names_and_sizes(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_text("one")
    first = listing_digest([("a.jpg", path)])
    path.write_text("two")
    assert listing_digest([("a.jpg", path)]) == first
    assert listing_digest([("b.jpg", path)]) != first
    path.write_text("three")
    assert listing_digest([("a.jpg", path)]) != first


@pytest.mark.parametrize(
    ("found", "wanted", "words"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 2}}, "a.b: expected 1, got 2"),
        ({"a": [1, 2, 3]}, {"a": [1, 5, 3]}, "a[1]: expected 2, got 5"),
        ({"a": [1]}, {"a": [1, 2]}, "a: expected [1], got [1, 2]"),
        ({}, {"a": "x" * 99}, f'a: expected null, got "{"x" * 76}...'),
        ({"a": 1}, {"a": 1, "later": None}, None),
        ({"a": [{"b": 1}]}, {"a": [{"b": 1, "later": None}]}, None),
        ({"a": [0, {"b": [1]}]}, {"a": [0, {"b": [2]}]}, "a[1].b[0]: expected 1, got 2"),
    ],
)
def test_the_first_difference_in_words(
    found: dict[str, Any], wanted: dict[str, Any], words: str | None, tmp_path: Path
) -> None:
    difference = first_setting(found, wanted, tmp_path)
    assert (None if difference is None else str(difference)) == words


def test_changed_content_is_named_with_its_time(tmp_path: Path) -> None:
    path = tmp_path / "done.json"
    path.write_text("")
    found, wanted = ({"train": {"annotations": settings.DIGEST + text}} for text in "ab")
    with refused(f"{path}: train annotations", "no change", "changed since 20", "--output"):
        check_settings(found, wanted, path)
