"""When key frames come: by the clock and by need, by hand; a threshold that keeps a budget."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from errors_fixture import refused

from vipnas.arch.clip import FollowUp, Fusion, KeyFrameRule, VideoArch
from vipnas.evaluation.key_frames import (
    HALVINGS,
    VIEW_HW,
    ClipMemory,
    KeyFrameSchedule,
    KeyFrameUse,
    chosen_rule,
    coarse_view,
)
from vipnas.models.counting import cost_at, count_cost, frame_costs, mean_cost
from vipnas.space.image import SearchSpace


def memory(distance: int, score: float = 1.0, grey: int = 0) -> ClipMemory:
    """What a frame leaves whose key frame's crop was all of one grey."""
    return ClipMemory(distance, torch.empty(0), np.empty((2, 3)), score, view(grey))


def view(grey: int) -> torch.Tensor:
    return coarse_view(torch.full((3, 64, 48), grey, dtype=torch.uint8))


def test_the_clock_counts_to_the_last_follow_up_frame() -> None:
    clock = KeyFrameSchedule(2)
    assert clock.distance(None, None) == 0
    assert [clock.distance(memory(distance), None) for distance in range(3)] == [1, 2, 0]
    assert clock.view(torch.zeros(3, 8, 8, dtype=torch.uint8)) is None
    always = KeyFrameSchedule(0, KeyFrameRule("score", 1.0, 9))
    assert always.distance(memory(0), None) == 0


def test_a_low_score_brings_a_key_frame() -> None:
    by_score = KeyFrameSchedule(2, KeyFrameRule("score", 0.4, max_interval=4))
    found = [by_score.distance(memory(1, score), None) for score in (0.9, 0.61, 0.59, 0.0)]
    assert found == [2, 2, 0, 0]
    # Beyond the clock the follow-up frames go on, up to the longest interval.
    assert [by_score.distance(memory(distance), None) for distance in (2, 3)] == [3, 0]


def test_a_changed_crop_brings_a_key_frame() -> None:
    by_change = KeyFrameSchedule(2, KeyFrameRule("change", 0.2, max_interval=9))
    crop = torch.full((3, 64, 48), 50, dtype=torch.uint8)
    seen = by_change.view(crop)
    assert seen is not None and seen.shape == (3, *VIEW_HW)
    # 50 of 255 are 0.196, 52 are 0.204.
    assert by_change.distance(memory(0, score=0.0), seen) == 1
    assert by_change.distance(memory(0), view(52)) == 0
    assert by_change.distance(memory(0, grey=10), view(52)) == 1
    # Half of the crop by 0.5 is 0.25 in the mean.
    crop[:, :32] = 50 + 128
    assert by_change.distance(memory(0, grey=50), by_change.view(crop)) == 0


def test_the_threshold_is_the_lowest_that_keeps_the_budget() -> None:
    asked: list[float] = []

    def keeps(rule: KeyFrameRule) -> bool:
        asked.append(rule.threshold)
        return rule.threshold >= 0.3

    rule = chosen_rule("change", 7, keeps)
    assert rule is not None and (rule.trigger, rule.max_interval) == ("change", 7)
    assert 0.3 <= rule.threshold < 0.3 + 0.5**HALVINGS and len(asked) == 1 + HALVINGS
    assert chosen_rule("score", 7, lambda rule: False) is None
    with refused("threshold", "0 to 1", "1.5"):
        KeyFrameRule("score", 1.5, 7)
    with refused("max_interval", "a whole number from 1", "0"):
        KeyFrameRule("score", 0.5, 0)


def test_the_cost_of_frames_by_hand(tiny_space: SearchSpace) -> None:
    arch = tiny_space.min_arch()
    clip = VideoArch(arch, (FollowUp(arch, Fusion(2, "add")), None))
    key_frame, first, _ = (cost.macs for cost in frame_costs(clip))
    assert key_frame == count_cost(arch).macs
    # At distance 3 the first follow-up network runs again, at 4 none.
    found = cost_at(clip, [0, 1, 2, 3, 4])
    assert found.macs == round((key_frame + 2 * first) / 5)
    assert found.params == mean_cost(clip).params
    assert cost_at(clip, [0, 1, 2, 0, 1, 2]) == mean_cost(clip)
    assert cost_at(VideoArch(arch, ()), [0, 0]).macs == pytest.approx(key_frame)
    assert str(KeyFrameUse(0.25, 4_750_000)) == "25.0% of the frames, 4.75 MMACs a frame"
