"""The networks that `tools.benchmarks.compare_accuracy` compares: found, scaled, trained and timed.

Each of these is a piece of work of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from tools.benchmarks.accuracy_study import Study
from tools.benchmarks.pieces import Piece
from tools.benchmarks.same_people import SamePeople
from tools.benchmarks.scaled_networks import scaled_to
from vipnas.arch.image import Arch
from vipnas.arch.io import read_arch, write_arch
from vipnas.config.experiment import ExperimentConfig
from vipnas.config.search import LatencyConfig
from vipnas.evaluation.evaluator import Evaluator
from vipnas.files import read_json, to_plain, write_atomically
from vipnas.latency.interleaved import Latency
from vipnas.latency.measure import key_of_this_machine, measure_archs, pinned
from vipnas.latency.profile import Profile, anchor_of, profile_space, retry_if_noisy
from vipnas.models.counting import count_cost
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.image_level import ImageLevel, cost_of_images
from vipnas.pipeline.level import supernet_file
from vipnas.pipeline.models import open_network
from vipnas.pipeline.retrain import retrain
from vipnas.pipeline.scorer import Scorer, opened_workers, search_settings
from vipnas.pipeline.search import run_methods, searchers_of
from vipnas.pipeline.supernet import train_supernet
from vipnas.pipeline.work import needed
from vipnas.quantities import Constraint
from vipnas.search.journal import Journal
from vipnas.shipped import find_shipped

# Of what is made: all, what is timed here (no network is trained for it), what is trained.
Which = Literal["all", "timed", "trained"]

show = partial(print, flush=True)


class Comparison:
    """The networks of a study, in one folder: `networks/NAME/arch.json`, and their trainings."""

    def __init__(self, study: Study, base: Experiment) -> None:
        self.study, self.base, self.output = study, base, base.output
        self.key = key_of_this_machine(study.runtimes[0], base.space.input_hw, study.threads)
        self.table = self.output / "latency" / "table.json"
        self.budgets = self.output / "budgets" / "budgets.json"
        self.published = {Path(name).stem: self._published(name) for name in study.published}
        self.spaces = {name: self._experiment_of(name) for name in study.supernet_epochs}

    # -- what there is to make

    def pieces(self, which: Which = "all") -> Iterator[Piece]:
        """In the order of what they are worth: what is found on MACs comes last, and waits for
        supernets of its own."""
        if which != "trained":
            yield Piece(self.budgets, (), self._set_budgets)
            yield Piece(self.table, (), self._profile)
            yield from self._known_archs()
        if which != "timed":
            yield self._supernet(self.spaces[self.base.space.name])
            yield from self._found_archs()
            yield from self._trainings(slice(1))
            yield from self._trainings(slice(1, None))
            yield from map(self._supernet, self.spaces.values())

    def _supernet(self, experiment: Experiment) -> Piece:
        return Piece(
            supernet_file(ImageLevel(experiment)),
            (),
            partial(train_supernet, ImageLevel(experiment)),
        )

    def _trainings(self, which: slice) -> Iterator[Piece]:
        for name in self.names():
            arch_file = self.arch_file(name)
            for seed in self.study.seeds_of(name)[which]:
                target = self.results_file(name, seed)
                yield Piece(target, (arch_file,), partial(self._train, name, seed))

    def _known_archs(self) -> Iterator[Piece]:
        """Published and scaled: no supernet is asked."""
        for name, arch in self.published.items():
            target = self.arch_file(f"c-{name}")
            yield Piece(target, (), partial(write_arch, target, arch))
        for number, share in enumerate(self.study.budgets):
            for reference, multiple in self.study.scaled.items():
                target = self.arch_file(f"d-{Path(reference).stem}-{share:g}")
                make = partial(self._scale, target, reference, multiple, number)
                yield Piece(target, (self.budgets,), make)

    def _found_archs(self) -> Iterator[Piece]:
        for number, share in enumerate(self.study.budgets):
            found = self.arch_file(f"a-{self.base.space.name}-{share:g}")
            for space, experiment in self.spaces.items():
                supernet = supernet_file(ImageLevel(experiment))
                if space == self.base.space.name:
                    make = partial(self._search_latency, experiment, found, number)
                    yield Piece(found, (self.budgets, self.table, supernet), make)
                elif number == 0:
                    target = self.arch_file(f"b-{space}-{share:g}")
                    make = partial(self._search_macs, experiment, target, found)
                    yield Piece(target, (found, supernet), make)

    def names(self) -> list[str]:
        """What is asked first of the study comes first: found, scaled, published, by MACs."""
        pieces = (*self._known_archs(), *self._found_archs())
        names = {piece.target.parent.name for piece in pieces}
        return sorted(names, key=lambda name: ("adcb".index(name[0]), name))

    def arch_file(self, name: str) -> Path:
        return self.output / "networks" / name / "arch.json"

    # -- making it

    def timed(
        self, archs: Sequence[Arch], runtime: str | None = None, rounds: int = 6
    ) -> list[Latency]:
        """In turn, on one core; measured again where the machine was too noisy."""
        key = key_of_this_machine(runtime or self.key.runtime, self.key.input_hw, self.key.threads)
        with pinned(key):
            return retry_if_noisy(
                lambda: measure_archs(archs, key, self.study.max_spread, rounds), show
            )

    def _set_budgets(self) -> None:
        latencies = self.timed(list(self.published.values()))
        ms = {name: found.median_ms for name, found in zip(self.published, latencies, strict=True)}
        budgets = [share * min(ms.values()) for share in self.study.budgets]
        write_atomically(self.budgets, json.dumps({"published": ms, "budgets": budgets}) + "\n")

    def _budget(self, number: int) -> float:
        budget: float = read_json(self.budgets)["budgets"][number]
        return budget

    def _profile(self) -> None:
        archs, blocks = self.study.profile
        aside = self.table.with_name("unfinished.json")
        amount = Profile(archs, blocks, max_spread=self.study.max_spread)
        profile_space(self.base.space, self.key, aside, amount, show)
        aside.rename(self.table)

    def _published(self, name: str) -> Arch:
        """At the input size and for the joints of the study."""
        space, arch = self.base.space, read_arch(find_shipped("search_spaces", name))
        return replace(arch, input_hw=space.input_hw, num_keypoints=space.num_keypoints)

    def _scale(self, target: Path, reference: str, multiple: int, number: int) -> None:
        name = Path(reference).stem
        arch = self.published[name] if name in self.published else anchor_of(self.base.space)

        def ms_of(arch: Arch) -> float:
            return self.timed([arch])[0].median_ms

        arch = scaled_to(self._budget(number), arch, multiple, ms_of)
        write_arch(target, arch, scaled_from=reference, budget_ms=self._budget(number))

    def _search_latency(self, experiment: Experiment, target: Path, number: int) -> None:
        budget = self._budget(number)
        least = self.study.least_use * budget
        self._search(experiment, target, Constraint("latency_ms", budget, least))

    def _search_macs(self, experiment: Experiment, target: Path, like: Path) -> None:
        macs = count_cost(read_arch(like)).macs
        self._search(experiment, target, Constraint("macs", macs, self.study.least_use * macs))

    def _search(self, experiment: Experiment, target: Path, constraint: Constraint) -> None:
        """By the experiment's searcher alone, without the random search beside it."""
        config = needed(experiment, experiment.config.search, "search")
        latency = None
        if constraint.quantity == "latency_ms":
            # Of whatever machine: what it predicts steers the search, what is told is measured.
            runtime, threads = self.key.runtime, self.key.threads
            latency = LatencyConfig(str(self.table), runtime, threads, any_device=True)
        config = replace(config, constraints=(constraint,), latency=latency)
        experiment = replace(experiment, config=replace(experiment.config, search=config))
        level = ImageLevel(experiment)
        scorer = Scorer(level)
        cost_of, costs = cost_of_images(config, experiment.space)
        searchers = searchers_of(config, experiment.space, experiment.config.seed, cost_of)
        searcher = {str(config.searcher): searchers[config.searcher]}
        journal = Journal(target.with_name("trials.jsonl"), {**search_settings(level), **costs})
        with opened_workers(scorer, config, None) as workers:
            run_methods(
                config,
                searcher,
                workers,
                cost_of,
                journal,
                lambda method, best, **found: level.write_trial(target, best, **found),
            )

    def _train(self, name: str, seed: int) -> None:
        """What the network finds on the test people is kept, so that a report needs no weights."""
        arch_file, target = self.arch_file(name), self.results_file(name, seed)
        experiment = self.alone(read_arch(arch_file), seed)
        weights = retrain(ImageLevel(experiment), arch_file, None, target.parent)
        network = open_network(experiment, weights, read_arch(arch_file))
        found = {"settings": self.settings(experiment), "results": self.evaluator.results(network)}
        write_atomically(target, json.dumps(found) + "\n")

    def results_file(self, name: str, seed: int) -> Path:
        return self.arch_file(name).parent / f"seed{seed}" / "results.json"

    def settings(self, experiment: Experiment) -> dict[str, Any]:
        """What results depend on: those of another recipe are refused."""
        recipe = {"retrain": to_plain(experiment.config.retrain)}
        return {**experiment.training_settings(), **experiment.scoring_settings(), **recipe}

    @cached_property
    def evaluator(self) -> Evaluator:
        return self.base.evaluator("test")

    def _experiment_of(self, space: str) -> Experiment:
        supernet = needed(self.base, self.base.config.supernet, "supernet")
        schedule = replace(supernet.schedule, epochs=self.study.supernet_epochs[space])
        supernet = replace(supernet, schedule=schedule)
        input_hw = self.base.space.input_hw
        config = replace(self.base.config, space=space, input_hw=input_hw, supernet=supernet)
        return self._sharing(config, self.output / space)

    def alone(self, arch: Arch, seed: int) -> Experiment:
        recipe = replace(self.base.config.retrain, init_from="scratch")
        config = replace(self.base.config, seed=seed, retrain=recipe, search=None)
        return replace(self._sharing(config, self.output), only=arch)

    def _sharing(self, config: ExperimentConfig, output: Path) -> SamePeople:
        base = self.base
        return SamePeople(
            config, output, base.data_root, base.device, base.skip_bad_images, people=base
        )
