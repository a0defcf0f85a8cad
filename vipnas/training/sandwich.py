"""Which architectures a training step of the supernet runs: deciding only, no training."""

from __future__ import annotations

import random
from collections.abc import Iterator

from vipnas.arch import Arch
from vipnas.space import SearchSpace


def sandwich(space: SearchSpace, rng: random.Random, num_random: int) -> Iterator[Arch]:
    """Largest first (the teacher), then random ones, smallest last.

    The sandwich rule of universally slimmable networks (Yu & Huang, ICCV 2019) and BigNAS (Yu et
    al., ECCV 2020).
    """
    yield space.max_arch()
    for _ in range(num_random):
        yield space.sample(rng)
    yield space.min_arch()


def archs_of_step(space: SearchSpace, seed: int, step: int, num_random: int) -> list[Arch]:
    """A pure function of (seed, step): a resumed run and every process of a cluster agree without
    talking."""
    return list(sandwich(space, random.Random(f"{seed}-{step}"), num_random))
