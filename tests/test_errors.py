"""The one error class: its form, its places, and its way out of another process."""

from __future__ import annotations

import pickle

import pytest

from vipnas.errors import UserError, shown


def test_the_form_is_place_expected_found_hint() -> None:
    error = UserError("a.yaml: seed", "a whole number", "'x'", "write 3")
    assert str(error) == "a.yaml: seed: expected a whole number, got 'x' (write 3)"
    assert str(UserError("", "a number", "none")) == "expected a number, got none"
    assert isinstance(error, ValueError)


def test_another_process_gets_the_same_error() -> None:
    error = UserError("--device", "a device", "cuda:9", "no CUDA")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is UserError and vars(copy) == vars(error) and str(copy) == str(error)


@pytest.mark.parametrize(
    ("place", "outer", "separator", "joined"),
    [
        ("seed", "a.yaml", ": ", "a.yaml: seed"),
        ("width", "stages[0]", ".", "stages[0].width"),
        ("[1]", "a.yaml: width", ": ", "a.yaml: width[1]"),
        ("", "a.yaml", ": ", "a.yaml"),
        ("seed", "", ": ", "seed"),
    ],
)
def test_a_place_is_found_inside_another(
    place: str, outer: str, separator: str, joined: str
) -> None:
    error = UserError(place, "a", "b", "c").inside(outer, separator)
    assert (error.place, error.expected, error.found, error.hint) == (joined, "a", "b", "c")


def test_an_unknown_name_is_shown_with_the_known_ones() -> None:
    error = UserError.not_one_of("codec", ("udp", "dark"), "drak")
    assert str(error) == "codec: expected one of dark, udp, got 'drak' (did you mean 'dark'?)"
    assert UserError.not_one_of("codec", ("udp", "dark"), 7).hint == ""
    assert UserError.not_one_of("codec", ("udp",), "ud", "renamed: use udp").hint.startswith("ren")


def test_a_long_value_is_cut() -> None:
    assert shown("x" * 10) == f"'{'x' * 10}'"
    assert len(shown("x" * 1000)) == 80
