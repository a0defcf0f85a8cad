"""What can be searched: architectures that are lists of genes, a whole number for every choice. No
torch here."""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence, Set
from typing import Generic, TypeVar

A = TypeVar("A")


class GeneSpace(ABC, Generic[A]):
    """All architectures that one supernet holds. `arch in space` tells membership.

    A gene is the index of the option taken; options stand from small to large, so that the smallest
    member has the lowest genes and the largest the highest.
    """

    name: str

    @property
    @abstractmethod
    def num_options(self) -> tuple[int, ...]:
        """Options of every choice, in the order of the genes."""

    @abstractmethod
    def decode(self, genes: Sequence[int]) -> A:
        """The member of these genes."""

    @abstractmethod
    def encode(self, arch: A) -> tuple[int, ...]:
        """The genes of a member; raises ValueError saying what is not of this space."""

    @property
    def size(self) -> int:
        """How many different architectures the space holds."""
        return math.prod(self.num_options)

    def __contains__(self, arch: A) -> bool:
        try:
            self.encode(arch)
        except ValueError:
            return False
        return True

    def check_arch(self, arch: A, where: str) -> None:
        """Raises ValueError in one line, naming `where` and the space, unless `arch in self`."""
        try:
            self.encode(arch)
        except ValueError as error:
            raise ValueError(f"{where}: not of space {self.name}: {error}") from None

    def min_arch(self) -> A:
        return self.decode([0] * len(self.num_options))

    def max_arch(self) -> A:
        """The largest member: the supernet's own architecture."""
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

    def sample(self, rng: random.Random) -> A:
        """Draw every choice independently and uniformly."""
        return self.decode([rng.randrange(count) for count in self.num_options])

    def mutate(self, arch: A, probability: float, rng: random.Random) -> A:
        """Redraw each choice with `probability` (0..1) among its other options; at least one
        changes."""
        genes = list(self.encode(arch))
        open_choices = [i for i, count in enumerate(self.num_options) if count > 1]
        if not open_choices:
            return arch
        changed = [i for i in open_choices if rng.random() < probability]
        for i in changed or [rng.choice(open_choices)]:
            genes[i] = (genes[i] + rng.randrange(1, self.num_options[i])) % self.num_options[i]
        return self.decode(genes)

    def crossover(self, first: A, second: A, rng: random.Random) -> A:
        """Take every choice from one of the two parents, by a fair coin."""
        pairs = zip(self.encode(first), self.encode(second), strict=True)
        return self.decode([rng.choice(pair) for pair in pairs])
