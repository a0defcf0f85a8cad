"""Looks at members of a network while it is trained: their AP on held-out people, their heatmaps.

A probe extracts and calibrates a network of its own from the averaged weights, and puts the
process's randomness back: training is the same with and without.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vipnas.arch.image import Arch
from vipnas.data.crops.crops import normalise
from vipnas.evaluation.evaluator import Evaluator
from vipnas.evaluation.scoring import InheritedScore
from vipnas.models.posenet import PoseNet
from vipnas.space.image import SearchSpace
from vipnas.training.randomness import random_state, restore_random_state

# B batch, K keypoints, H W height and width

PICTURED = 8


class Probe(NamedTuple):
    """What was seen: the APs by member (0..1) and a picture (H, W, 3), RGB, a row for each."""

    aps: dict[str, float]
    picture: NDArray[np.uint8]


@dataclass(frozen=True)
class Probes:
    """Which members to look at, on what, every how many steps. The parts are made when first
    needed."""

    archs: dict[str, Arch]
    every_steps: int
    make_evaluator: Callable[[], Evaluator]
    make_calibration_images: Callable[[], Tensor]

    def __call__(self, network: PoseNet) -> Probe:
        before = random_state()
        score = InheritedScore(network, self._evaluator, self._calibration_images)
        aps, rows = {}, []
        for name, arch in self.archs.items():
            member = score.network(arch)
            try:
                aps[name] = self._evaluator(member).ap
            except FloatingPointError:  # the training itself finds out, or gets over it
                aps[name] = 0.0
            rows.append(heatmaps_over_crops(member, self._evaluator.crops.images_B3HW[:PICTURED]))
        restore_random_state(before)
        return Probe(aps, np.vstack(rows))

    @cached_property
    def _evaluator(self) -> Evaluator:
        return self.make_evaluator()

    @cached_property
    def _calibration_images(self) -> Tensor:
        return self.make_calibration_images()


def probed_archs(space: SearchSpace, seed: int, num_random: int) -> dict[str, Arch]:
    """The ends of a space and random members: the same throughout a run, so that they compare."""
    rng = random.Random(f"{seed}-probes")
    drawn = {f"random_{number + 1}": space.sample(rng) for number in range(num_random)}
    return {"largest": space.max_arch(), "smallest": space.min_arch(), **drawn}


@torch.no_grad()
def heatmaps_over_crops(network: PoseNet, images_B3HW: Tensor) -> NDArray[np.uint8]:
    """A row of crops (uint8), each with the largest of its joints' heatmaps over it: the redder
    and the less of the image is left, the nearer to 1."""
    device = next(network.parameters()).device
    heat_BHW = network(normalise(images_B3HW.to(device))).amax(1).float().nan_to_num(0).clamp(0, 1)
    tiles = []
    for image_3HW, heat_HW in zip(images_B3HW, heat_BHW.cpu().numpy(), strict=True):
        crop = image_3HW.permute(1, 2, 0).numpy()
        heat = cv2.resize(heat_HW, crop.shape[1::-1], interpolation=cv2.INTER_LINEAR)[..., None]
        colours = cv2.applyColorMap((255 * heat).astype(np.uint8), cv2.COLORMAP_JET)[..., ::-1]
        tiles.append((crop * (1 - 0.8 * heat) + colours * 0.8 * heat).astype(np.uint8))
    return np.hstack(tiles)
