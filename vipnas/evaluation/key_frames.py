"""When a person has a key frame: every T + 1 frames by the clock, or by need.

A need is a number from 0 to 1. A person has a key frame where it exceeds a threshold, and after
`max_interval` frames. Between key frames, the follow-up networks run in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

from vipnas.arch.clip import KeyFrameRule, Trigger
from vipnas.data.crops.geometry import FloatArray
from vipnas.quantities import MACS

# Cells of a crop in which pixels are averaged, so that noise and small jitter show no change.
VIEW_HW = (16, 16)
# Of the range of thresholds, to find the one that keeps a budget.
HALVINGS = 10


class ClipMemory(NamedTuple):
    """What the next frame takes from a frame, for one person.

    Attributes:
        distance: Frames since the person's key frame; 0 in a key frame.
        heatmaps_KHW: (K, h, w), on the CPU.
        input_from_image_23: The affine from the image to the crop that gave the heatmaps.
        score: The mean score of the joints.
        key_view_3HW: `coarse_view` of the crop in the key frame; None where no trigger needs it.
    """

    distance: int
    heatmaps_KHW: Tensor
    input_from_image_23: FloatArray
    score: float
    key_view_3HW: Tensor | None = None


def coarse_view(crop_3HW: Tensor) -> Tensor:
    """Return a uint8 crop as means over `VIEW_HW` cells, in 0..1."""
    return F.adaptive_avg_pool2d(crop_3HW.float() / 255, VIEW_HW)


def score_need(memory: ClipMemory, view_3HW: Tensor | None) -> float:
    """Return how far the mean score of the pose in the previous frame is below 1."""
    return 1 - memory.score


def change_need(memory: ClipMemory, view_3HW: Tensor | None) -> float:
    """Return the mean absolute difference of the crop from that of the person's key frame."""
    assert view_3HW is not None and memory.key_view_3HW is not None
    return float((view_3HW - memory.key_view_3HW).abs().mean())


TRIGGERS: dict[Trigger, Callable[[ClipMemory, Tensor | None], float]] = {
    "score": score_need,
    "change": change_need,
}


@dataclass(frozen=True)
class KeyFrameSchedule:
    """Says how far each person is from a key frame.

    Attributes:
        num_follow_ups: T of the clip.
        rule: When key frames come by need; None is one every T + 1 frames.
    """

    num_follow_ups: int
    rule: KeyFrameRule | None = None

    def view(self, crop_3HW: Tensor) -> Tensor | None:
        """Return `coarse_view` of a crop where the trigger needs it."""
        is_needed = self.rule is not None and self.rule.trigger == "change"
        return coarse_view(crop_3HW) if is_needed else None

    def distance(self, memory: ClipMemory | None, view_3HW: Tensor | None) -> int:
        """Return the frames since the key frame, 0 for a key frame.

        Args:
            memory: That of the previous frame; a person without one has a key frame.
            view_3HW: `view` of the crop in this frame.
        """
        if memory is None or self.num_follow_ups == 0:
            return 0
        following = memory.distance + 1
        if self.rule is None:
            return following % (self.num_follow_ups + 1)
        if following >= self.rule.max_interval:
            return 0
        need = TRIGGERS[self.rule.trigger](memory, view_3HW)
        return 0 if need > self.rule.threshold else following


@dataclass(frozen=True)
class KeyFrameUse:
    """What key frames by need came to: their share of all poses, and the mean MACs of a frame."""

    share: float
    macs: int

    def __str__(self) -> str:
        return f"{self.share:.1%} of the frames, {MACS.shown(self.macs)} {MACS.unit} a frame"


def chosen_rule(
    trigger: Trigger, max_interval: int, keeps_budget: Callable[[KeyFrameRule], bool]
) -> KeyFrameRule | None:
    """Return the rule with the lowest threshold that keeps a budget; None if none does.

    The number of key frames falls with the threshold, which is found by halving 0 to 1.
    """
    rule = KeyFrameRule(trigger, 1.0, max_interval)
    if not keeps_budget(rule):
        return None
    low = 0.0
    for _ in range(HALVINGS):
        middle = KeyFrameRule(trigger, (low + rule.threshold) / 2, max_interval)
        if keeps_budget(middle):
            rule = middle
        else:
            low = middle.threshold
    return rule
