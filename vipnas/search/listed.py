"""Score a given list of architectures in the search loop. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic

from vipnas.search.constraints import A
from vipnas.search.searchers import Origin


class Listed(Generic[A]):
    """A searcher that proposes the given architectures in their order, whatever they cost."""

    def __init__(self, archs: Sequence[A]) -> None:
        self.archs = iter(archs)

    def ask(self) -> A | None:
        return next(self.archs, None)

    def tell(self, arch: A, fitness: float) -> None:
        """Do nothing."""

    def origin(self, arch: A) -> Origin:
        return Origin(generation=0, parents=())
