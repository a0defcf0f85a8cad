"""Workers in other processes: the same trials, whoever scores, however late, whoever dies."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from accidents_fixture import Troubled, dies, hangs, no_number, out_of_memory
from errors_fixture import refused
from search_fixture import Separable, without_seconds

from vipnas.arch.image import Arch
from vipnas.config.search import Evolution
from vipnas.models.counting import count_cost
from vipnas.search.constraints import FeasibleSpace
from vipnas.search.journal import Journal
from vipnas.search.loop import search
from vipnas.search.parallel import RayWorkers
from vipnas.search.ray_cluster import RaySettings, start_ray
from vipnas.search.searchers import EvolutionSearcher
from vipnas.search.trial import Trial
from vipnas.search.workers import InProcess
from vipnas.space.image import SearchSpace

pytestmark = pytest.mark.timeout(180)

NUM_TRIALS = 14
PENDING = 3


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    """One Ray for all tests here: it takes seconds to start."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        # Where the workers find the modules of the tests.
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        assert start_ray(RaySettings(3))
        yield
        ray.shutdown()


@pytest.fixture
def run(tiny_space: SearchSpace, tmp_path: Path) -> Callable[..., list[Trial]]:
    def run(workers: InProcess[Arch] | RayWorkers[Arch], name: str = "trials") -> list[Trial]:
        feasible = FeasibleSpace(tiny_space, count_cost, ())
        searcher = EvolutionSearcher(feasible, 0, Evolution(population_size=4))
        journal = Journal(tmp_path / f"{name}.jsonl", {})
        return search(
            searcher,
            "evolution",
            workers,
            count_cost,
            NUM_TRIALS,
            journal,
            lambda trial: None,
            PENDING,
        )

    return run


@pytest.fixture
def expected(tiny_space: SearchSpace, run: Callable[..., list[Trial]]) -> list[Trial]:
    return run(InProcess(lambda: Separable(tiny_space)), "in_process")


@pytest.mark.parametrize("num_workers", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_however_many_workers_the_trials_are_the_same(
    ray: None,
    tiny_space: SearchSpace,
    tmp_path: Path,
    run: Callable[..., list[Trial]],
    expected: list[Trial],
    num_workers: int,
) -> None:
    def make_evaluate() -> Callable[[Arch], float]:
        (tmp_path / f"{os.getpid()}.up").write_text(str(os.nice(0)))
        rng = random.Random(os.getpid())  # every worker is slow at other times

        def evaluate(arch: Arch) -> float:
            while len(list(tmp_path.glob("*.up"))) < num_workers:
                time.sleep(0.01)
            time.sleep(rng.random() / 20)
            return Separable(tiny_space)(arch)

        return evaluate

    with RayWorkers(make_evaluate, RaySettings(num_workers)) as workers:
        trials = run(workers)
    assert without_seconds(trials) == without_seconds(expected)
    names = {trial.worker for trial in trials}
    assert len(names) == num_workers and None not in names
    assert {file.read_text() for file in tmp_path.glob("*.up")} == {str(os.nice(0))}


@pytest.mark.parametrize(
    ("accident", "reason"),
    [
        (dies, "the worker died: SYSTEM_ERROR"),
        pytest.param(hangs, "no result after 3 s", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("times", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_lost_worker_is_replaced_and_its_arch_gets_one_more_try(
    ray: None,
    tiny_space: SearchSpace,
    tmp_path: Path,
    run: Callable[..., list[Trial]],
    expected: list[Trial],
    accident: Callable[[], None],
    reason: str,
    times: int,
) -> None:
    at, counts = 5, tmp_path / "counts"
    counts.mkdir()
    evaluate = Troubled(tiny_space, {expected[at].arch: accident}, counts, times)
    limit = 3 if accident is hangs else None
    with RayWorkers(lambda: evaluate, RaySettings(2, seconds_limit=limit)) as workers:
        trials = run(workers)
    assert len(trials) == NUM_TRIALS and len(list(counts.iterdir())) == 2
    assert trials[at].retried == reason
    assert {trial.number for trial in trials if trial.retried} == {at}
    if times == 1:
        assert without_seconds(trials) == without_seconds(expected)
    else:
        assert trials[at].score is None and trials[at].failure == f"lost twice: {reason}"
        assert {trial.number for trial in trials if trial.failure} == {at}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("accident", "failure"),
    [
        (out_of_memory, "MemoryError: no room"),
        (no_number, "FloatingPointError: the score is nan"),
    ],
)
def test_an_arch_that_fails_by_itself_is_recorded_at_once(
    ray: None,
    tiny_space: SearchSpace,
    tmp_path: Path,
    run: Callable[..., list[Trial]],
    expected: list[Trial],
    accident: Callable[[], float | None],
    failure: str,
) -> None:
    counts = tmp_path / "counts"
    counts.mkdir()
    evaluate = Troubled(tiny_space, {expected[5].arch: accident}, counts)
    with RayWorkers(lambda: evaluate, RaySettings(2)) as workers:
        trials = run(workers)
    assert trials[5].failure == failure and trials[5].retried is None
    assert len(list(counts.iterdir())) == 1
    in_process = run(InProcess(lambda: Troubled(tiny_space, {expected[5].arch: accident}, counts)))
    assert without_seconds(trials) == without_seconds(in_process)


def test_a_mistake_of_ours_is_raised_as_it_was(
    ray: None, tiny_space: SearchSpace, run: Callable[..., list[Trial]]
) -> None:
    def broken(arch: Arch) -> float:
        raise KeyError("a mistake")

    with RayWorkers(lambda: broken, RaySettings(1)) as workers, pytest.raises(KeyError):
        run(workers)


@pytest.mark.slow
def test_workers_that_cannot_be_made_say_why(
    ray: None, tiny_space: SearchSpace, run: Callable[..., list[Trial]]
) -> None:
    def refuses() -> Callable[[Arch], float]:
        raise ValueError("no supernet here")

    def falls() -> Callable[[Arch], float]:
        dies()
        raise AssertionError

    with (
        RayWorkers(refuses, RaySettings(1)) as workers,
        pytest.raises(ValueError, match="^no supernet here$"),
    ):
        run(workers, "refuses")
    with (
        RayWorkers(falls, RaySettings(1)) as workers,
        refused("workers", "", "3 in a row that did not start", "the worker died"),
    ):
        run(workers, "falls")


def test_settings_out_of_range_are_refused() -> None:
    with refused("workers", "at least 1 worker", "0 with 1 and 0"):
        RaySettings(0)
