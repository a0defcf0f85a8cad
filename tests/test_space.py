"""What may be chosen: genes and back, sampling, mutation, crossover, and files that are refused."""

from __future__ import annotations

import copy
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from errors_fixture import refused
from spaces_fixture import INVERTED_YAML, SMALL_YAML, space_from
from video_fixture import video_space_of

from vipnas.arch.image import Arch, SimccArch, StageArch
from vipnas.models.counting import count_cost
from vipnas.shipped import shipped_directory
from vipnas.space.image import SearchSpace
from vipnas.space.yaml import read_space


def all_members(space: SearchSpace) -> list[Arch]:
    return [space.decode(genes) for genes in itertools.product(*map(range, space.num_options))]


def test_genes_and_back(space: SearchSpace) -> None:
    rng = random.Random(0)
    for _ in range(50):
        genes = tuple(rng.randrange(count) for count in space.num_options)
        assert space.encode(space.decode(genes)) == genes


def test_the_size_counts_every_member_once(small_space: SearchSpace) -> None:
    members = all_members(small_space)
    assert len(set(members)) == len(members) == small_space.size == 32
    assert all(arch in small_space for arch in members)


def test_the_size_of_tiny_is_what_its_file_says(tiny_space: SearchSpace) -> None:
    assert tiny_space.size == 5184 * 8 == 41472


def test_a_space_says_that_it_has_fewer_channels_than_joints(
    small_space: SearchSpace, tmp_path: Path
) -> None:
    line = small_space.shortage()
    assert line is not None and "at least 17 channels" in line and "got 4" in line
    text = SMALL_YAML.replace("head:\n  - {width: [4]", "head:\n  - {width: [4, 17]")
    assert space_from(text, tmp_path, "wide").shortage() is None
    assert video_space_of(small_space, num_follow_ups=2).shortage() == line
    assert replace(small_space, simcc=SimccArch(1)).shortage() is None
    for file in shipped_directory("search_spaces").glob("*.yaml"):
        assert read_space(file).shortage() is None


def test_a_sample_is_uniform_and_a_function_of_the_seed(small_space: SearchSpace) -> None:
    first, second = (
        [small_space.sample(rng) for _ in range(3200)]
        for rng in (random.Random(1), random.Random(1))
    )
    assert first == second
    counts = Counter(first)
    assert len(counts) == 32
    # 100 expected, deviation 10: within five of them.
    assert min(counts.values()) > 50 and max(counts.values()) < 150
    assert small_space.sample(random.Random(2)) != small_space.sample(random.Random(3))


def test_no_member_costs_less_than_the_smallest_or_more_than_the_largest(
    space: SearchSpace,
) -> None:
    low, high = count_cost(space.min_arch()), count_cost(space.max_arch())
    rng = random.Random(0)
    for _ in range(50):
        cost = count_cost(space.sample(rng))
        assert low.macs <= cost.macs <= high.macs
        assert low.params <= cost.params <= high.params


def test_one_option_larger_never_costs_less(small_space: SearchSpace) -> None:
    for genes in itertools.product(*map(range, small_space.num_options)):
        cost = count_cost(small_space.decode(genes))
        for choice, count in enumerate(small_space.num_options):
            if genes[choice] + 1 < count:
                larger = [*genes]
                larger[choice] += 1
                assert count_cost(small_space.decode(larger)).macs > cost.macs


def genes_changed(space: SearchSpace, before: Arch, after: Arch) -> int:
    pairs = zip(space.encode(before), space.encode(after), strict=True)
    return sum(first != second for first, second in pairs)


def test_a_mutation_changes_at_least_one_choice(space: SearchSpace) -> None:
    rng = random.Random(0)
    arch = space.sample(rng)
    assert all(genes_changed(space, arch, space.mutate(arch, 0.0, rng)) == 1 for _ in range(20))
    assert all(genes_changed(space, arch, space.mutate(arch, 0.02, rng)) > 0 for _ in range(50))
    open_choices = sum(count > 1 for count in space.num_options)
    assert genes_changed(space, arch, space.mutate(arch, 1.0, rng)) == open_choices


def test_a_mutation_reaches_every_other_option(tiny_space: SearchSpace) -> None:
    rng = random.Random(0)
    arch = tiny_space.min_arch()
    depths = {tiny_space.mutate(arch, 1.0, rng).stages[1].depth for _ in range(50)}
    assert depths == {2, 3}


def test_crossover_takes_every_choice_from_a_parent_and_from_both(space: SearchSpace) -> None:
    rng = random.Random(0)
    first, second = space.min_arch(), space.max_arch()
    for _ in range(10):
        child = space.encode(space.crossover(first, second, rng))
        pairs = list(zip(space.encode(first), space.encode(second), strict=True))
        assert all(gene in pair for gene, pair in zip(child, pairs, strict=True))
        from_first = sum(
            gene == pair[0] != pair[1] for gene, pair in zip(child, pairs, strict=True)
        )
        assert 0 < from_first < sum(a != b for a, b in pairs)


def test_crossover_of_equals_is_the_same(space: SearchSpace) -> None:
    arch = space.sample(random.Random(3))
    assert space.crossover(arch, arch, random.Random(0)) == arch


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        (lambda a: replace(a, input_hw=(128, 96)), ("input_hw", "(64, 48)", "(128, 96)")),
        (lambda a: replace(a, num_keypoints=14), ("num_keypoints", "17", "14")),
        (
            lambda a: replace(a, family="inverted_residual"),
            ("family", "'residual'", "'inverted_residual'"),
        ),
        (
            lambda a: replace(a, head=()),
            ("stages and head", "2 stages and 1 deconvolutions", "2 and 0"),
        ),
        (
            lambda a: replace(a, stages=(replace(a.stages[0], depth=7), a.stages[1])),
            ("stages[0].depth", "one of [1, 2]", "7"),
        ),
        (
            lambda a: replace(a, stem=replace(a.stem, activation="hardswish")),
            ("stem.activation", "one of ['relu']", "'hardswish'"),
        ),
    ],
)
def test_what_is_not_of_the_space_is_said(
    tiny_space: SearchSpace, change: Callable[[Arch], Arch], fields: tuple[str, str, str]
) -> None:
    arch = change(tiny_space.max_arch())
    assert arch not in tiny_space
    place, expected, found = fields
    with refused(f"best.json: {place}", expected, found, "not in the space tiny"):
        tiny_space.check_arch(arch, "best.json")
    tiny_space.check_arch(tiny_space.max_arch(), "best.json")


def test_channels_per_group_become_the_count_at_each_width(tmp_path: Path) -> None:
    space = space_from(INVERTED_YAML, tmp_path, "inverted")
    # Two channels a group are more compute than one: the largest. 8 channels then make 4 groups.
    assert space.max_arch().stages[0].groups == 4
    assert space.min_arch().stages[0].groups == 8
    # The second stage: one group, or one channel a group at whatever the middle width comes to.
    rng = random.Random(0)
    stages = {space.sample(rng).stages[1] for _ in range(200)}
    assert {stage.groups for stage in stages} == {1, 16, 24, 32, 48}
    assert all(stage.groups in (1, stage.middle_width) for stage in stages)


def test_the_order_of_options_in_the_file_does_not_matter(tmp_path: Path) -> None:
    document = yaml.safe_load(INVERTED_YAML)
    for part in (document["stem"], *document["stages"], *document["head"]):
        for options in part.values():
            options.reverse()
    first = space_from(INVERTED_YAML, tmp_path, "space")
    assert space_from(yaml.safe_dump(document), tmp_path, "space").to_plain() == first.to_plain()


def test_other_facts_keep_the_choices(tiny_space: SearchSpace) -> None:
    other = tiny_space.with_facts((96, 72), 14)
    assert other.max_arch() == replace(tiny_space.max_arch(), input_hw=(96, 72), num_keypoints=14)
    assert tiny_space.with_facts() == tiny_space
    assert other.to_plain() != tiny_space.to_plain()
    with refused("tiny: input_hw", "multiples of 8", "[100, 72]"):
        tiny_space.with_facts((100, 72))


Document = dict[str, Any]


def put(*place: str | int, value: Any) -> Callable[[Document], Any]:
    """A change to the document: `value` at the place."""

    def change(document: Document) -> None:
        inner: Any = document
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value

    return change


def drop(*place: str | int) -> Callable[[Document], Any]:
    def change(document: Document) -> None:
        inner: Any = document
        for key in place[:-1]:
            inner = inner[key]
        del inner[place[-1]]

    return change


STAGE_1: tuple[str | int, ...] = ("stages", 1)
HEAVY: Document = {
    "width": [8, 4096],
    "depth": [1],
    "kernel_size": [3, 255],
    "groups": [1],
    "attention": [False],
    "expand_ratio": [2],
    "stride": [2],
    "activation": ["relu"],
}


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        (put("famly", value="residual"), ("", "the keys family", "'famly'", "'family'?")),
        (
            put(*STAGE_1, "kernel_sizes", value=[3]),
            (": stages[1]", "the keys", "'kernel_sizes'", "'kernel_size'?"),
        ),
        (put("stem", "colour", value=[1]), (": stem", "the keys activation", "'colour'")),
        (put(*STAGE_1, 3, value=[1]), (": stages[1]", "the keys", "3")),
        (drop("head"), ("", "the key head", "none")),
        (drop(*STAGE_1, "depth"), (": stages[1]", "the key depth", "none")),
        (drop("stages", 0, "channels_per_group"), (": stages[0]", "the key groups", "none")),
        (put("family", value="dense"), (": family", "one of inverted_residual, res", "'dense'")),
        (put("input_hw", value=[64]), (": input_hw[1]", "a value", "none")),
        (put("input_hw", value=[33, 32]), (": input_hw", "multiples of 4", "[33, 32]")),
        (put("num_keypoints", value="17"), (": num_keypoints", "a valid integer", "'17'")),
        (put("stem", value=[3]), (": stem", "a mapping with the keys width", "[3]")),
        (put("stages", value={"width": [3]}), (": stages", "a list of parts", "{'width': [3]}")),
        (put(*STAGE_1, "depth", value=[1, 10**9]), (": stages[1].depth", "from 1 to 1024")),
        (
            put("stem", "kernel_size", value=[3, 10**9 + 1]),
            (": stem.kernel_size", "from 1 to 255", "1000000001"),
        ),
        # Each option alone would do; only the largest member is too large.
        (put(*STAGE_1, value=HEAVY), ("", "up to 1,000,000,000 weights")),
        (put("stages", value=[]), (": stages", "one stage or more", "none")),
        (put(*STAGE_1, "width", value=16), (": stages[1].width", "a list of one or more", "16")),
        (put(*STAGE_1, "width", value=[]), (": stages[1].width", "a list of one or more", "[]")),
        (put(*STAGE_1, "width", value=[8, "x"]), (": stages[1].width[1]", "integer", "'x'")),
        (put(*STAGE_1, "width", value=[8, 8.5]), (": stages[1].width[1]", "integer", "8.5")),
        (put(*STAGE_1, "width", value=[8, True]), (": stages[1].width[1]", "integer", "True")),
        (put(*STAGE_1, "attention", value=[0, 1]), (": stages[1].attention[0]", "boolean", "0")),
        (
            put(*STAGE_1, "activation", value=["gelu"]),
            (": stages[1].activation[0]", "one of hardswish, relu", "'gelu'"),
        ),
        (put(*STAGE_1, "depth", value=[1, 1]), (": stages[1].depth", "each option on", "[1, 1]")),
        (put(*STAGE_1, "depth", value=[0, 1]), (": stages[1].depth", "whole numbers from 1", "0")),
        (put(*STAGE_1, "width", value=[-8, 8]), (": stages[1].width", "numbers from 1", "-8")),
        (
            put(*STAGE_1, "kernel_size", value=[3, 4, 5]),
            (": stages[1].kernel_size", "an odd number", "4"),
        ),
        (put(*STAGE_1, "kernel_size", value=[4]), (": stages[1].kernel_size", "odd", "4")),
        (put("head", 0, "kernel_size", value=[2, 3, 4]), (": head[0].kernel_size", "2 or 4", "3")),
        (put(*STAGE_1, "groups", value=[1, 3]), (": stages[1].groups", "of 16 channels", "3")),
        (put(*STAGE_1, "groups", value=[0]), (": stages[1].groups", "whole numbers from 1", "0")),
        (
            put(*STAGE_1, "channels_per_group", value=[1, 3]),
            (": stages[1].channels_per_group", "a divisor of 16 channels", "3"),
        ),
        (put("head", 0, "groups", value=[3]), (": head[0].groups", "of 8 channels", "3")),
        (
            put("head", 0, "channels_per_group", value=[1]),
            (": head[0]", "the keys groups", "'channels_per_group'"),
        ),
        (
            put(*STAGE_1, "expand_ratio", value=[1, 2]),
            (": stages[1].expand_ratio", "1 alone or no 1", "[1, 2]"),
        ),
        (
            put("stages", 0, "width", value=[16]),
            (": stages[0].channels_per_group", "one width, that of the input (8)", "[16]"),
        ),
        (
            lambda document: document["stages"][1].update(groups=[8], channels_per_group=[2]),
            (": stages[1].groups", "different options", "[8, 8] groups at 16 channels"),
        ),
        (put(*STAGE_1, "stride", value=[1, 2]), (": stride and max_pool", "one heatmap size")),
        (
            put("stem", "max_pool", value=[False, True]),
            (": stride and max_pool", "one heatmap size"),
        ),
    ],
)
def test_a_spoilt_file_is_one_line(
    tmp_path: Path, change: Callable[[Document], Any], fields: tuple[str, ...]
) -> None:
    document = copy.deepcopy(yaml.safe_load(INVERTED_YAML))
    change(document)
    path = tmp_path / "spoilt.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    with refused(f"{path}{fields[0]}", *fields[1:]):
        read_space(path)


def test_widths_that_do_not_meet_are_refused_where_groups_follow_the_width(tmp_path: Path) -> None:
    """A member with 8 channels in and 16 out would have 8 groups of 2 and read 8: 1 a group."""
    document = yaml.safe_load(INVERTED_YAML)
    document["stem"]["width"] = document["stages"][0]["width"] = [8, 24]
    place = f"{tmp_path / 'spoilt.yaml'}: stages[0].channels_per_group"
    with refused(place, "one width, that of the input (8, 24)", "[8, 24]", "expand_ratio is 1"):
        space_from(yaml.safe_dump(document), tmp_path, "spoilt")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "a mapping with the keys family"),
        ("3", "a mapping with the keys family"),
        ("[1, 2]", "a mapping with the keys family"),
        ("stem: [", "valid YAML"),
        ("!!python/object:os.system {}", "valid YAML"),
    ],
)
def test_what_is_no_space_at_all_is_one_line(tmp_path: Path, content: str, expected: str) -> None:
    with refused(str(tmp_path / "spoilt.yaml"), expected):
        space_from(content, tmp_path, "spoilt")


def test_every_member_of_a_file_that_is_read_can_be_built(tmp_path: Path) -> None:
    space = space_from(INVERTED_YAML, tmp_path, "inverted")
    assert len(set(all_members(space))) == space.size == 1536


def test_a_file_of_before_a_choice_came_does_not_offer_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if attention were the later choice."""
    document = yaml.safe_load(INVERTED_YAML)
    for stage in document["stages"]:
        stage["attention"] = [False]
    full = space_from(yaml.safe_dump({**document, "version": 1}), tmp_path, "full")
    for stage in document["stages"]:
        del stage["attention"]
    with pytest.raises(ValueError, match=r"stages\[0\]: expected the key attention"):
        space_from(yaml.safe_dump(document), tmp_path, "old")
    monkeypatch.setattr(StageArch.__dataclass_fields__["attention"], "default", False)
    old = space_from(yaml.safe_dump(document), tmp_path, "old")
    assert replace(old, name="full") == full and old.to_plain() == full.to_plain()
    assert "attention" not in old.to_plain()["stages"][0]
    with pytest.raises(ValueError, match="new.yaml: version: expected 2 or lower, got 3"):
        space_from(yaml.safe_dump({**document, "version": 3}), tmp_path, "new")
