"""Archs that are given, scored as those of a search are. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic

from vipnas.search.constraints import A
from vipnas.search.searchers import Origin


class Listed(Generic[A]):
    """A searcher that asks for the given archs, whatever they cost."""

    def __init__(self, archs: Sequence[A]) -> None:
        self.archs = iter(archs)

    def ask(self) -> A | None:
        return next(self.archs, None)

    def tell(self, arch: A, fitness: float) -> None:
        """Nothing is learnt."""

    def origin(self, arch: A) -> Origin:
        return Origin(generation=0, parents=())
