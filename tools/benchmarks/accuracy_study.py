"""What tools/benchmarks/compare_accuracy.py compares: the file of a study."""

from __future__ import annotations

from dataclasses import dataclass

from vipnas.files import Strict


@dataclass(frozen=True)
class Study(Strict):
    """What is compared. `experiment` gives people, supernet, search and recipe; its space is
    searched on milliseconds.

    `supernet_epochs` has the spaces, that of the experiment and those searched on MACs. `scaled`
    are the references of (d), published networks or a space, whose middle member it is, and what
    scaled widths are multiples of. `budgets` are shares of the milliseconds of the quickest
    published network in the first of the `runtimes`; a search uses at least `least_use` of its
    budget. Each network is trained with the `seeds` of the longest key that its name begins with.
    `profile` is the number of networks and of layers in the latency table.
    """

    experiment: str
    supernet_epochs: dict[str, float]
    published: tuple[str, ...]
    scaled: dict[str, int]
    budgets: tuple[float, ...]
    seeds: dict[str, tuple[int, ...]]
    least_use: float = 0.85
    runtimes: tuple[str, ...] = ("onnxruntime",)
    threads: int = 1
    profile: tuple[int, int] = (80, 600)
    max_spread: float = 0.1

    def seeds_of(self, name: str) -> tuple[int, ...]:
        """Raises ValueError where the name begins with none of the keys."""
        keys = [key for key in self.seeds if name.startswith(key)]
        if not keys:
            raise ValueError(f"seeds: found no key that {name} begins with; allowed is one like a")
        return self.seeds[max(keys, key=len)]
