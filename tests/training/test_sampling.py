"""Which subnets a step trains: a pure function of the seed and the step."""

from __future__ import annotations

import random
from collections import Counter
from statistics import median
from typing import Any

import pytest
from errors_fixture import refused
from scipy.stats import kstest
from training_fixture import sampler_of

from vipnas.config.training import EVEN_CHOICES, RANDOM_ONLY, ProgressiveShrinking, Sampling
from vipnas.files import parse
from vipnas.models.counting import count_cost
from vipnas.space.image import SearchSpace
from vipnas.training.sampling import SubnetSampler

STRATEGIES = ("sandwich", "uniform", "uniform_macs", "cost_balanced", "best_up", "worst_up")
ELASTIC = {"input_hw", "width", "depth", "kernel_size", "groups", "attention", "expand_ratio"}


def test_the_largest_first_the_smallest_last_random_ones_between(tiny_space: SearchSpace) -> None:
    rng = random.Random("4-7")
    between = [tiny_space.sample(rng) for _ in range(3)]
    archs = sampler_of(tiny_space, num_random=3, seed=4).archs(7)
    assert archs == [tiny_space.max_arch(), *between, tiny_space.min_arch()]
    ends = sampler_of(tiny_space, num_random=0).archs(0)
    assert ends == [tiny_space.max_arch(), tiny_space.min_arch()]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_members_of_a_step_depend_on_seed_and_step_only(
    strategy: str, tiny_space: SearchSpace
) -> None:
    sampler, other = (sampler_of(tiny_space, seed=seed, strategy=strategy) for seed in (1, 2))
    forwards = [sampler(step) for step in range(20)]
    before = random.getstate()
    again = sampler_of(tiny_space, seed=1, strategy=strategy)
    backwards = [again(step) for step in reversed(range(20))]
    assert forwards == backwards[::-1]
    assert random.getstate() == before
    assert len(set(forwards)) == 20
    assert set(forwards).isdisjoint(other(step) for step in range(20))
    assert all(arch in tiny_space for arch in sampler.archs(3))


def test_seed_and_step_do_not_run_into_each_other(tiny_space: SearchSpace) -> None:
    assert sampler_of(tiny_space, seed=1)(11) != sampler_of(tiny_space, seed=11)(1)


def test_more_random_archs_keep_the_first_ones(tiny_space: SearchSpace) -> None:
    two, three = (sampler_of(tiny_space, num_random=number).archs(5) for number in (2, 3))
    assert two[:3] == three[:3]


def test_uniform_trains_random_archs_alone_each_option_as_often(tiny_space: SearchSpace) -> None:
    sampler = sampler_of(tiny_space, num_random=1, strategy="uniform")
    members = [sampler(step) for step in range(900)]
    assert {(len(step), step[0].kind) for step in members} == {(1, "random")}
    widths = Counter(step[0].candidates[0].stages[1].width for step in members)
    assert widths.keys() == {16, 24, 32}
    assert all(abs(count - 300) < 45 for count in widths.values())  # three standard deviations
    spread = sampler_of(tiny_space, num_random=2, strategy="uniform_macs")
    assert {tuple(member.kind for member in spread(step)) for step in range(20)} == {
        ("random", "random")
    }


def share_of_cost(space: SearchSpace, macs: int) -> float:
    lowest, highest = (count_cost(arch).macs for arch in (space.min_arch(), space.max_arch()))
    return (macs - lowest) / (highest - lowest)


def distance_from_even(space: SearchSpace, strategy: str) -> float:
    """Kolmogorov-Smirnov distance of the random members' costs from an even distribution."""
    sampler = sampler_of(space, num_random=1, strategy=strategy)
    place = 0 if strategy in RANDOM_ONLY else 1
    costs = [count_cost(sampler(step)[place].candidates[0]).macs for step in range(300)]
    return float(kstest([share_of_cost(space, macs) for macs in costs], "uniform").statistic)


def test_members_are_spread_evenly_over_macs_where_the_strategy_says_so(
    tiny_space: SearchSpace,
) -> None:
    for strategy in ("sandwich", "uniform"):
        assert distance_from_even(tiny_space, strategy) > 0.3
    for strategy in ("cost_balanced", "uniform_macs"):
        assert distance_from_even(tiny_space, strategy) < 0.1


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_random_members_keep_to_a_range_of_macs(strategy: str, tiny_space: SearchSpace) -> None:
    middle = median(count_cost(tiny_space.sample(random.Random(seed))).macs for seed in range(200))
    low, high = int(0.9 * middle), int(1.1 * middle)

    def shares(**sampling: Any) -> float:
        sampler = sampler_of(tiny_space, strategy=strategy, **sampling)
        members = [member for step in range(60) for member in sampler(step)]
        archs = [
            arch for member in members if member.kind == "random" for arch in member.candidates
        ]
        return sum(low <= count_cost(arch).macs <= high for arch in archs) / len(archs)

    within = shares(macs_between=(low, high), num_draws=64)
    assert shares() < 0.2 and within > 0.5
    assert within == 1 or strategy not in EVEN_CHOICES


def test_archs_drawn_evenly_within_a_range_are_those_that_lie_there(
    tiny_space: SearchSpace,
) -> None:
    between = (0, count_cost(tiny_space.max_arch()).macs)
    everywhere = [sampler_of(tiny_space, strategy="uniform").archs(step) for step in range(20)]
    within = sampler_of(tiny_space, strategy="uniform", macs_between=between)
    assert [within.archs(step) for step in range(20)] == everywhere
    smallest = count_cost(tiny_space.min_arch()).macs
    near = sampler_of(
        tiny_space,
        strategy="uniform",
        macs_between=(smallest, smallest),
        num_draws=2,
        num_candidates=1,
    )
    rng = random.Random("0-3")
    two = [tiny_space.sample(rng), tiny_space.sample(rng)]
    assert near.archs(3) == [min(two, key=lambda arch: count_cost(arch).macs)]


def test_a_range_that_the_space_does_not_have_is_refused(tiny_space: SearchSpace) -> None:
    highest = count_cost(tiny_space.max_arch()).macs
    for between in ((0, 1), (highest + 1, 2 * highest)):
        with pytest.raises(ValueError, match=f"to {highest:,} of tiny, got"):
            sampler_of(tiny_space, macs_between=between)


def test_attentive_candidates_are_near_one_another_in_cost(tiny_space: SearchSpace) -> None:
    for strategy, prefer in (("best_up", "lowest_loss"), ("worst_up", "highest_loss")):
        sampler = sampler_of(tiny_space, strategy=strategy, num_candidates=4, num_draws=64)
        distances = []
        for step in range(30):
            members = sampler(step)
            assert [member.kind for member in members] == ["largest", "random", "smallest"]
            assert members[1].prefer == prefer and len(members[1].candidates) == 4
            costs = [count_cost(arch).macs for arch in members[1].candidates]
            shares = [share_of_cost(tiny_space, macs) for macs in costs]
            distances.append(max(shares) - min(shares))
        assert sum(distances) / len(distances) < 0.1


def test_a_closed_choice_stays_at_the_option_of_the_largest(space: SearchSpace) -> None:
    restricted = space.with_open_choices({"kernel_size", "depth"})
    largest = space.max_arch()
    assert restricted.max_arch() == largest
    archs = [restricted.sample(random.Random(seed)) for seed in range(50)]
    assert all(arch in space for arch in archs)
    for arch in (*archs, restricted.min_arch()):
        for stage, full in zip(arch.stages, largest.stages, strict=True):
            kept = ("width", "groups", "attention", "expand_ratio", "stride", "activation")
            assert all(getattr(stage, name) == getattr(full, name) for name in kept)
        assert [deconv.width for deconv in arch.head] == [deconv.width for deconv in largest.head]
    assert len(set(archs)) > 10
    everything = ELASTIC | {"stride", "activation", "max_pool", "input_hw"}
    assert space.with_open_choices(everything) == space


def test_choices_open_one_after_another() -> None:
    progressive_shrinking = ProgressiveShrinking(
        2.0, (("kernel_size",), ("depth",), ("width", "groups")), 1.5
    )
    assert (
        progressive_shrinking.open_at(0, ELASTIC)
        == progressive_shrinking.open_at(1.99, ELASTIC)
        == frozenset()
    )
    assert progressive_shrinking.open_at(2.0, ELASTIC) == {"kernel_size"}
    assert progressive_shrinking.open_at(3.49, ELASTIC) == {"kernel_size"}
    assert progressive_shrinking.open_at(3.5, ELASTIC) == {"kernel_size", "depth"}
    assert progressive_shrinking.all_open_epoch == 5.0
    assert progressive_shrinking.open_at(4.99, ELASTIC) == {"kernel_size", "depth"}
    assert progressive_shrinking.open_at(5.0, ELASTIC) == ELASTIC  # what no group names too
    assert ProgressiveShrinking().open_at(0, ELASTIC) == ELASTIC
    assert ProgressiveShrinking(1.0).open_at(0.99, ELASTIC) == frozenset()
    assert ProgressiveShrinking(1.0).open_at(1.0, ELASTIC) == ELASTIC


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_largest_alone_then_what_is_open(strategy: str, tiny_space: SearchSpace) -> None:
    progressive_shrinking = ProgressiveShrinking(1.0, (("depth",), ("width",)), 1.0)
    sampling = Sampling(strategy=strategy)  # type: ignore[arg-type]
    sampler = SubnetSampler(tiny_space, 0, 10, count_cost, sampling, progressive_shrinking)
    largest = tiny_space.max_arch()
    assert [sampler.archs(step) for step in (0, 9)] == [[largest], [largest]]
    only_depth = tiny_space.with_open_choices({"depth"})
    for step in (10, 19):
        archs = sampler.archs(step)
        assert all(arch in only_depth for arch in archs)
        assert strategy in RANDOM_ONLY or archs[-1] == only_depth.min_arch()
    later = [arch for step in range(20, 30) for arch in sampler.archs(step)]
    assert any(arch not in only_depth for arch in later)
    assert strategy in RANDOM_ONLY or sampler.archs(20)[-1] == tiny_space.min_arch()


def test_impossible_settings_are_refused() -> None:
    alone = ("num_random", "a whole number from 1", "0")
    together = "order together with epochs_each"
    for kind, raw, (place, *fields) in (
        (Sampling, {"strategy": "uniform", "num_random": 0}, (*alone, "uniform")),
        (Sampling, {"strategy": "uniform_macs", "num_random": 0}, (*alone, "uniform_macs")),
        (Sampling, {"num_candidates": 64}, ("num_candidates", "at most num_draws, 32", "64")),
        (Sampling, {"macs_between": [3, 2]}, ("macs_between", "smaller one first", "[3, 2]")),
        (Sampling, {"strategy": "best"}, ("strategy", "one of best_up", "'best'")),
        (ProgressiveShrinking, {"order": [["depth"]]}, ("", together, "epochs_each 0")),
        (ProgressiveShrinking, {"epochs_each": 1.0}, ("", together, "order []")),
        (
            ProgressiveShrinking,
            {"order": [["stride"]], "epochs_each": 1.0},
            ("order[0][0]", "one of attention", "'stride'"),
        ),
    ):
        with refused(f"file: {place}" if place else "file", *fields):
            parse(kind, raw, "file")
