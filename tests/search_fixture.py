"""A synthetic objective and trials made by hand, for the tests of the search."""

from __future__ import annotations

import itertools

from vipnas.arch.image import Arch
from vipnas.search.constraints import Space
from vipnas.search.trial import Trial
from vipnas.space.image import SearchSpace


class Separable:
    """Every choice adds its own part to the score, the larger option more; known for any arch."""

    def __init__(self, space: Space[Arch]) -> None:
        self.space = space
        self.calls: list[Arch] = []

    def __call__(self, arch: Arch) -> float:
        self.calls.append(arch)
        shares = [
            (gene / (count - 1)) * (1 + choice % 3)
            for choice, (gene, count) in enumerate(
                zip(self.space.encode(arch), self.space.num_options, strict=True)
            )
            if count > 1
        ]
        return sum(shares) / (3 * len(shares))


def members(space: SearchSpace) -> list[Arch]:
    """All archs of a small space."""
    choices = (range(count) for count in space.num_options)
    return [space.decode(genes) for genes in itertools.product(*choices)]


def trial(number: int, arch: Arch, score: float | None = 0.5, method: str = "random") -> Trial:
    from vipnas.models.counting import count_cost  # workers unpickle `Separable` without PyTorch

    failure = "FloatingPointError: not finite" if score is None else None
    return Trial(number, method, arch, score, count_cost(arch), 0.25, failure)


def without_seconds(trials: list[Trial]) -> list[tuple[object, ...]]:
    """All of the trials but what the clock decides."""
    return [(t.number, t.method, t.arch, t.score, t.cost, t.failure) for t in trials]
