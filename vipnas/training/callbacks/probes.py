"""Probes: the AP of subnets on the validation split while they are trained, and their heatmaps.

A probe extracts and calibrates its own network from the averaged weights, and restores the random
state. Training is the same with and without probes.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from vipnas.evaluation.scoring import Inherited
from vipnas.space.genes import GeneSpace
from vipnas.training.randomness import random_state, restore_random_state

# B batch, K keypoints, H W height and width

PICTURED = 8
A = TypeVar("A")


class Probe(NamedTuple):
    """The APs by subnet (0..1), and an RGB picture (H, W, 3) with a row for each subnet."""

    aps: dict[str, float]
    picture: NDArray[np.uint8]


class Probes(Generic[A]):
    """Evaluate subnets every `every_steps` steps; the scorer is made lazily."""

    def __init__(
        self,
        archs: dict[str, A],
        every_steps: int,
        make_scorer: Callable[[nn.Module], Inherited[A]],
    ) -> None:
        self.archs = archs
        self.every_steps = every_steps
        self._make_scorer = make_scorer
        self._scorer: Inherited[A] | None = None

    def __call__(self, network: nn.Module) -> Probe:
        before = random_state()
        made = self._scorer = self._scorer or self._make_scorer(network)
        scorer = made.of(network)
        aps, rows = {}, []
        for name, arch in self.archs.items():
            subnet = scorer.network(arch)
            try:
                aps[name] = scorer.metrics_of(subnet, arch).ap
            except FloatingPointError:  # the training itself stops, or recovers
                aps[name] = 0.0
            rows.append(heatmaps_over_crops(*scorer.seen(subnet, PICTURED)))
        restore_random_state(before)
        return Probe(aps, np.vstack(rows))


def probed_archs(space: GeneSpace[A], seed: int, num_random: int) -> dict[str, A]:
    """Return the largest, the smallest and random subnets, the same throughout a run."""
    rng = random.Random(f"{seed}-probes")
    drawn = {f"random_{number + 1}": space.sample(rng) for number in range(num_random)}
    return {"largest": space.max_arch(), "smallest": space.min_arch(), **drawn}


def heatmaps_over_crops(images_B3HW: Tensor, heatmaps_BKHW: Tensor) -> NDArray[np.uint8]:
    """Return a row of crops (uint8), each under the largest of its joints' heatmaps.

    Red areas, which cover the image, are near 1.
    """
    heat_BHW = heatmaps_BKHW.amax(1).float().nan_to_num(0).clamp(0, 1)
    tiles = []
    for image_3HW, heat_HW in zip(images_B3HW.cpu(), heat_BHW.cpu().numpy(), strict=True):
        crop = image_3HW.permute(1, 2, 0).numpy()
        heat = cv2.resize(heat_HW, crop.shape[1::-1], interpolation=cv2.INTER_LINEAR)[..., None]
        colours = cv2.applyColorMap((255 * heat).astype(np.uint8), cv2.COLORMAP_JET)[..., ::-1]
        tiles.append((crop * (1 - 0.8 * heat) + colours * 0.8 * heat).astype(np.uint8))
    return np.hstack(tiles)
