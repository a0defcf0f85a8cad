"""The arch of a clip: a value, in and out of JSON; its space; what it costs, counted by hand."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from errors_fixture import refused
from video_fixture import video_space_of

from vipnas.arch.clip import FollowUp, Fusion, VideoArch
from vipnas.arch.io import read_video_arch, write_arch
from vipnas.files import parse_json, to_plain
from vipnas.models.counting import count_cost, frame_costs, mean_cost
from vipnas.quantities import Constraint, Cost
from vipnas.search.constraints import FeasibleSpace
from vipnas.space.clip import VideoSpace
from vipnas.space.image import SearchSpace


@pytest.fixture(scope="module")
def video_space(tiny_space: SearchSpace) -> VideoSpace:
    return video_space_of(tiny_space, num_follow_ups=3)


def test_json_gives_the_same_value(video_space: VideoSpace, tmp_path: Path) -> None:
    rng = random.Random(0)
    for _ in range(20):
        arch = video_space.sample(rng)
        assert parse_json(VideoArch, arch.to_json(), "test") == arch
        write_arch(tmp_path / "best.json", arch, score=0.5)
        assert read_video_arch(tmp_path / "best.json") == arch


def test_genes_give_the_same_arch_and_archs_the_same_genes(video_space: VideoSpace) -> None:
    rng = random.Random(0)
    for _ in range(50):
        genes = tuple(rng.randrange(count) for count in video_space.num_options)
        assert video_space.encode(video_space.decode(genes)) == genes
    fusions = {f.fusion for seed in range(60) for f in sample(video_space, seed).follow_ups}
    assert fusions == set(video_space.fusions)


def sample(space: VideoSpace, seed: int) -> VideoArch:
    return space.sample(random.Random(seed))


def test_frames_choose_by_themselves_and_the_key_frame_stays(video_space: VideoSpace) -> None:
    first, second = sample(video_space, 1), sample(video_space, 2)
    assert len(set(first.follow_ups)) == 3
    child = video_space.crossover(first, second, random.Random(0))
    mutant = video_space.mutate(first, 0.0, random.Random(0))
    changed = sum(a != b for a, b in zip(first.follow_ups, mutant.follow_ups, strict=True))
    assert changed == 1
    assert {child.key_frame, mutant.key_frame} == {video_space.key_frame}


def test_half_of_the_frames_have_the_key_frames_network_where_the_space_holds_it(
    video_space: VideoSpace,
) -> None:
    drawn = [f for seed in range(200) for f in sample(video_space, seed).follow_ups]
    like_key = [member for member in drawn if member.arch == video_space.key_frame]
    assert 0.43 < len(like_key) / len(drawn) < 0.57  # 600 tosses of a coin
    assert {member.fusion for member in like_key} == set(video_space.fusions)
    head = video_space.key_frame.head
    other = replace(video_space.key_frame, head=(replace(head[0], width=1000), *head[1:]))
    strange = replace(video_space, key_frame=other)
    assert all(f.arch in strange.image_space for f in sample(strange, 0).follow_ups)


def test_what_is_not_of_the_space_is_named(video_space: VideoSpace) -> None:
    arch = video_space.min_arch()
    few = replace(arch, follow_ups=arch.follow_ups[:1])
    only_none = replace(video_space, fusions=(None,))
    fused = replace(arch, follow_ups=(FollowUp(arch.key_frame, Fusion(1, "add")),) * 3)
    with refused("best.json: follow_ups", "3 frames", "1"):
        video_space.check_arch(few, "best.json")
    with refused("best.json: follow_ups[0].fusion", "one of none", "add at 1"):
        only_none.check_arch(fused, "best.json")
    assert few not in video_space and arch in video_space


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"stage": 0}, (".fusion.stage", "a whole number from 1", "0")),
        ({"stage": 4}, (".fusion.stage", "1 to 3", "4", "2 stages, then 1 deconvolutions")),
        ({"operation": "plus"}, (".fusion.operation", "one of add, cat, mul", "'plus'")),
        ({"where": 1}, (".fusion", "the keys operation, stage", "'where'")),
    ],
)
def test_an_impossible_fusion_is_one_line(
    video_space: VideoSpace, change: dict[str, object], fields: tuple[str, ...]
) -> None:
    arch = video_space.decode(
        [
            len(video_space.fusions) - 1 if n == len(video_space.fusions) else 0
            for n in video_space.num_options
        ]
    )
    document = to_plain(arch)
    document["follow_ups"][0]["fusion"] = {**document["follow_ups"][0]["fusion"], **change}
    with refused(f"best.json: follow_ups[0]{fields[0]}", *fields[1:]):
        parse_json(VideoArch, json.dumps(document), "best.json")


def test_follow_up_frames_must_fit_the_key_frame(tiny_space: SearchSpace) -> None:
    other = tiny_space.with_facts(input_hw=(32, 32)).min_arch()
    with refused("follow_ups[0].input_hw", "(64, 48) as in the key frame", "(32, 32)"):
        VideoArch(tiny_space.min_arch(), (FollowUp(other, None),))
    # The smallest of a space may run no network in any frame, and would fit every key frame.
    with refused("follow_ups[0].input_hw", "(32, 32) as in the key frame", "(64, 48)"):
        VideoSpace(other, tiny_space, (None,), num_follow_ups=1, warp=True)


def test_frames_have_sizes_of_their_own(tiny_space: SearchSpace) -> None:
    sized = tiny_space.with_facts(input_hw=((32, 24), (64, 48)))
    key, small = tiny_space.min_arch(), sized.min_arch()
    space = VideoSpace(key, sized, (None,), num_follow_ups=2)
    assert space.num_options == (2, *tiny_space.num_options, 1) * 2 and "input_hw" in space.choices
    drawn = [sample(space, seed) for seed in range(40)]
    assert all(space.decode(space.encode(arch)) == arch for arch in drawn)
    assert {f.arch.input_hw for arch in drawn for f in arch.follow_ups} == {(32, 24), (64, 48)}
    clip = VideoArch(key, (FollowUp(small, None), None, FollowUp(key, None)))
    # A frame without a network has the size of the frame before; the networks run in turn.
    sizes = [clip.sized_as(distance).input_hw[0] for distance in range(7)]
    assert sizes == [64, 32, 32, 64, 32, 32, 64]
    assert VideoArch(key, (None,)).sized_as(3) is key
    assert clip.largest == key and VideoArch(small, (FollowUp(key, None),)).largest == key
    # A quarter of the area: without attention and fusion, a quarter of the MACs.
    costs = [cost.macs for cost in frame_costs(clip)]
    assert [4 * cost for cost in costs] == [4 * costs[0], costs[0], 0, 4 * costs[0]]
    assert mean_cost(clip).macs == round(costs[0] * 2.25 / 4)


def test_the_same_without_fusion(video_space: VideoSpace) -> None:
    arch = sample(video_space, 0)
    alone = arch.without_fusion()
    assert [f.arch for f in alone.follow_ups] == [f.arch for f in arch.follow_ups]
    assert all(f.fusion is None for f in alone.follow_ups)


def test_a_frame_may_run_no_network(video_space: VideoSpace, tmp_path: Path) -> None:
    space, rng = replace(video_space, warp=True), random.Random(0)
    drawn = [space.sample(rng) for _ in range(200)]
    assert all(space.decode(space.encode(arch)) == arch for arch in drawn)
    frames = [follow_up for arch in drawn for follow_up in arch.follow_ups]
    assert 0.05 < frames.count(None) / len(frames) < 0.15  # 1 of 11 options
    for ends in (space.largest, space.smallest):
        assert all(None not in ends(random.Random(seed)).follow_ups for seed in range(20))
    assert space.max_arch() == video_space.max_arch()
    smallest = space.min_arch()
    assert smallest.follow_ups == (None,) * 3
    # Only the gene that brings a network back changes the clip.
    mutants = [space.mutate(smallest, 0.1, rng).follow_ups for _ in range(30)]
    assert smallest.follow_ups not in mutants
    one = replace(space, num_follow_ups=1)
    assert one.size == len(space.fusions) * space.image_space.size + 1 and space.size == one.size**3
    with refused("best.json: follow_ups[0].fusion", "one of none, add at 1, ", "warp"):
        video_space.check_arch(smallest, "best.json")
    write_arch(tmp_path / "best.json", smallest)
    assert read_video_arch(tmp_path / "best.json") == smallest
    assert smallest.with_fusions_of(drawn[0]) == smallest == smallest.without_fusion()


def test_the_file_of_an_earlier_version_is_read(video_space: VideoSpace, tmp_path: Path) -> None:
    arch = sample(video_space, 0)
    path = tmp_path / "best.json"
    path.write_text(json.dumps({"version": 1, "video_arch": to_plain(arch), "found": {}}))
    assert read_video_arch(path) == arch


def test_a_frame_without_a_network_costs_nothing(tiny_space: SearchSpace) -> None:
    arch = tiny_space.min_arch()
    alone = Cost(300, 7, 6.0)
    clip = VideoArch(arch, (None, FollowUp(arch, None), None))
    assert frame_costs(clip, lambda _: alone) == (alone, Cost(0, 0, 0.0), alone, Cost(0, 0, 0.0))
    assert mean_cost(clip, lambda _: alone) == Cost(150, 14, 3.0)
    assert mean_cost(VideoArch(arch, (None, None)), lambda _: Cost(300, 7)) == Cost(100, 7)


def test_cost_by_hand(tiny_space: SearchSpace) -> None:
    """Fusion at stage 2 of the smallest: heatmaps 17 x 16 x 12 shrink to 8 x 6, 16 channels; and
    each is added, times a weight of its joint, to what the network gives."""
    arch = tiny_space.min_arch()
    alone = count_cost(arch)
    pixels, channels, joints = 8 * 6, 16, 17
    embed, mix, carry = joints * channels, channels * channels, joints
    video = VideoArch(arch, (FollowUp(arch, Fusion(2, "cat")), FollowUp(arch, Fusion(2, "add"))))
    key_frame, cat, add = frame_costs(video)
    assert key_frame == alone
    assert add.macs - alone.macs == embed * pixels + carry * 16 * 12
    assert add.params - alone.params == embed + 2 * channels + carry
    assert cat.macs - add.macs == mix * pixels and cat.params - add.params == mix
    assert mean_cost(video).macs == round((key_frame.macs + cat.macs + add.macs) / 3)
    twice = VideoArch(arch, (FollowUp(arch, None), FollowUp(arch, None)))
    assert mean_cost(twice) == replace(alone, params=2 * alone.params)


def test_mean_latency_is_over_the_clip(tiny_space: SearchSpace) -> None:
    small, large = tiny_space.min_arch(), tiny_space.max_arch()
    known = {small: Cost(100, 1, 2.0), large: Cost(300, 1, 8.0)}
    video = VideoArch(large, (FollowUp(small, None), FollowUp(small, None)))
    assert mean_cost(video, known.__getitem__).latency_ms == pytest.approx(4.0)


def test_a_budget_for_the_clip_is_kept(video_space: VideoSpace) -> None:
    highest = mean_cost(video_space.max_arch()).macs
    budget = Constraint("macs", at_most=0.6 * highest)
    feasible = FeasibleSpace(video_space, mean_cost, [budget])
    for seed in range(10):
        assert mean_cost(feasible.sample(random.Random(seed))).macs <= 0.6 * highest
