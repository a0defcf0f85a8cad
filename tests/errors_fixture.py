"""What a test expects of a `UserError`: its fields, not its prose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from vipnas.errors import UserError


@contextmanager
def refused(place: str, expected: str = "", found: str = "", hint: str = "") -> Iterator[None]:
    """The block must raise a UserError with this place, and these words in the other fields."""
    with pytest.raises(UserError) as caught:
        yield
    error = caught.value
    assert error.place == place
    assert expected in error.expected
    assert found in error.found
    assert hint in error.hint
    assert "\n" not in str(error)
