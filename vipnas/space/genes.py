"""Search spaces whose architectures are lists of genes, one per choice. No torch here."""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence, Set
from typing import Generic, TypeVar

from vipnas.errors import UserError

A = TypeVar("A")


class GeneSpace(ABC, Generic[A]):
    """All architectures that one supernet holds. `arch in space` tests membership.

    A gene is the index of an option. Options are sorted from small to large: the smallest
    architecture has the lowest genes, the largest the highest.
    """

    name: str
    num_parts = 1  # with the same choices, whose genes follow each other

    @property
    @abstractmethod
    def num_options(self) -> tuple[int, ...]:
        """Number of options of every choice, in the order of the genes."""

    @abstractmethod
    def decode(self, genes: Sequence[int]) -> A:
        """Return the architecture of these genes."""

    @abstractmethod
    def encode(self, arch: A) -> tuple[int, ...]:
        """Return the genes of an architecture.

        Raises:
            UserError: If it is not in this space. The place is the first field that differs.
        """

    @property
    def size(self) -> int:
        """Number of different architectures."""
        return math.prod(self.num_options)

    def __contains__(self, arch: A) -> bool:
        try:
            self.encode(arch)
        except UserError:
            return False
        return True

    def check_arch(self, arch: A, where: str) -> None:
        """Raise UserError, with a place inside `where`, unless `arch in self`."""
        try:
            self.encode(arch)
        except UserError as error:
            also = f"; {error.hint}" if error.hint else ""
            hint = f"not in the space {self.name}{also}"
            reason = UserError(error.place, error.expected, error.found, hint)
            raise reason.inside(where) from None

    def min_arch(self) -> A:
        """Return the smallest architecture."""
        return self.decode([0] * len(self.num_options))

    def max_arch(self) -> A:
        """Return the largest architecture, which is that of the supernet."""
        return self.decode([count - 1 for count in self.num_options])

    def largest(self, rng: random.Random) -> A:
        """Return the largest architecture of a training step; what has no size is drawn."""
        return self.max_arch()

    def smallest(self, rng: random.Random) -> A:
        """Return the smallest architecture of a training step; what has no size is drawn."""
        return self.min_arch()

    @property
    @abstractmethod
    def choices(self) -> Set[str]:
        """The names of the choices, such as `width`."""

    @abstractmethod
    def with_open_choices(self, open_choices: Set[str]) -> GeneSpace[A]:
        """Return the space whose other choices keep only the option of the largest."""

    @abstractmethod
    def shortage(self) -> str | None:
        """Return what even the largest architecture is too narrow for, if anything."""

    def sample(self, rng: random.Random) -> A:
        """Sample every choice independently and uniformly."""
        return self.decode([rng.randrange(count) for count in self.num_options])

    def mutate(self, arch: A, probability: float, rng: random.Random) -> A:
        """Resample each choice with `probability` (0 to 1) among its other options.

        At least one choice changes, if any has two options.
        """
        genes = list(self.encode(arch))
        open_choices = self.open_choices(genes)
        if not open_choices:
            return arch
        changed = [i for i in open_choices if rng.random() < probability]
        for i in changed or [rng.choice(open_choices)]:
            genes[i] = (genes[i] + rng.randrange(1, self.num_options[i])) % self.num_options[i]
        return self.decode(genes)

    def open_choices(self, genes: Sequence[int]) -> list[int]:
        """Return the places of the genes whose other options are other architectures."""
        return [i for i, count in enumerate(self.num_options) if count > 1]

    def crossover(self, first: A, second: A, rng: random.Random) -> A:
        """Take every choice from one of the two parents, each with probability 0.5."""
        pairs = zip(self.encode(first), self.encode(second), strict=True)
        return self.decode([rng.choice(pair) for pair in pairs])
