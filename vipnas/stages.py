"""The three commands: train the supernet, search it, retrain the winner.

Each leaves its results in a folder of the run, goes on where it was killed, and does nothing where
its results are there already.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from vipnas.arch import Arch, read_arch, write_arch
from vipnas.cost import count_cost
from vipnas.data.loader import training_batches
from vipnas.deploy.draw import prediction_sheet
from vipnas.evaluation.evaluator import Evaluator, InheritedScore, calibrate_bn
from vipnas.experiment import Experiment, Split, digest
from vipnas.files import read_json, to_plain, write_atomically
from vipnas.models.posenet import PoseNet, extract
from vipnas.results import Metrics, Trial
from vipnas.search.constraints import FeasibleSpace
from vipnas.search.journal import Journal
from vipnas.search.loop import search as run_search
from vipnas.search.pareto import pareto_front
from vipnas.search.searchers import EvolutionSearcher, RandomSearcher, Searcher
from vipnas.training.checkpoint import (
    difference,
    load_checkpoint,
    load_network,
    load_weights,
    save_network,
)
from vipnas.training.loop import Backward, CheckpointFile, Schedule, Training, check_settings
from vipnas.training.monitor import Monitor
from vipnas.training.retrain import retrain_backward
from vipnas.training.supernet import supernet_backward

Section = TypeVar("Section")

METHODS = ("evolution", "random")


def supernet_file(experiment: Experiment) -> Path:
    return experiment.output / "supernet" / "supernet.pt"


def best_file(experiment: Experiment, method: str = "evolution") -> Path:
    name = "best.json" if method == "evolution" else f"{method}_best.json"
    return experiment.output / "search" / name


def train_supernet(experiment: Experiment) -> Path:
    """Train the supernet; `supernet/supernet.pt` holds its averaged weights."""
    target = supernet_file(experiment)
    config = _needed(experiment.config.supernet, "supernet")
    settings = {**experiment.training_settings(), "supernet": to_plain(config)}
    if is_done(target, settings):
        return target
    torch.manual_seed(experiment.config.seed)
    supernet = PoseNet(experiment.space.max_arch()).to(experiment.device)
    backward = supernet_backward(
        supernet, experiment.space, experiment.codec, experiment.config.seed, config.num_random
    )
    with timed(target.parent):
        trained = _train(experiment, target.parent, supernet, config.schedule, backward, settings)
        save_network(target, trained, settings=json.dumps(settings, sort_keys=True))
    print(f"supernet: trained; {target}")
    return target


def search(experiment: Experiment) -> Path:
    """Search the trained supernet by evolution, and by random search with as many scores.

    `search/best.json` is the arch with the best score within the budgets.
    """
    config, seed = _needed(experiment.config.search, "search"), experiment.config.seed
    feasible = FeasibleSpace(experiment.space, count_cost, config.constraints)
    directory = best_file(experiment).parent
    scorer = _Scorer(experiment)
    journal = Journal(directory / "trials.jsonl", scorer.settings())
    searchers: dict[str, Searcher] = {
        "evolution": EvolutionSearcher(feasible, seed, config.evolution),
        "random": RandomSearcher(feasible, seed),
    }
    with timed(directory):
        for method in METHODS:
            show = partial(_show_trial, num_trials=config.num_trials)
            trials = run_search(
                searchers[method], method, scorer, count_cost, config.num_trials, journal, show
            )
            best = max(trials, key=lambda trial: trial.fitness)
            if best.score is None:
                raise ValueError(f"all {len(trials)} evaluations failed; the last: {best.failure}")
            write_trial(best_file(experiment, method), best, experiment)
            if method == "evolution":
                front = [to_plain(trial) for trial in pareto_front(trials)]
                write_atomically(directory / "pareto.json", json.dumps(front, indent=1) + "\n")
            print(f"search: best of {len(trials)} by {method}: {best.fitness:.4f}, {best.cost}")
    return best_file(experiment)


def retrain(experiment: Experiment, arch_file: Path, init_from: Path | None = None) -> Path:
    """Train one arch by itself; `retrain/network.pt` holds it, `retrain/metrics.json` its test AP.

    `init_from` is a file of weights: of a supernet that holds the arch, or of this very arch. None
    leaves it to the experiment's `init_from`.
    """
    arch = read_arch(arch_file)
    experiment.space.check_member(arch, str(arch_file))
    config = experiment.config.retrain
    if init_from is None and config.init_from == "supernet":
        init_from = supernet_file(experiment)
    target = experiment.output / "retrain" / "network.pt"
    settings = {
        **experiment.training_settings(),
        "retrain": to_plain(config),
        "arch": to_plain(arch),
        "init_from": digest_of(init_from),
        "calibration_batch_size": experiment.config.evaluation_batch_size,
    }
    if not is_done(target, settings):
        torch.manual_seed(experiment.config.seed)
        network = PoseNet(arch) if init_from is None else inherit(init_from, arch)
        network = network.to(experiment.device)
        backward = retrain_backward(network, experiment.codec)
        with timed(target.parent):
            trained = _train(
                experiment, target.parent, network, config.schedule, backward, settings
            )
            if config.schedule.average_decay > 0:
                # The running statistics are of the last weights, not of the averaged ones.
                batch_size = experiment.config.evaluation_batch_size
                calibrate_bn(trained, experiment.calibration_images, batch_size)
            target.with_name("metrics.json").unlink(missing_ok=True)  # of an earlier network
            save_network(target, trained, settings=json.dumps(settings, sort_keys=True))
    metrics_file = target.with_name("metrics.json")
    if not metrics_file.exists():
        network = load_network(target, arch).to(experiment.device)
        metrics = experiment.evaluator("test")(network)
        write_atomically(metrics_file, json.dumps(to_plain(metrics), indent=2) + "\n")
        print(f"retrain: {metrics} on the test set; {target}")
    return target


def inherit(weights_file: Path, arch: Arch) -> PoseNet:
    """The network of an arch with the weights that it has in a larger network's file."""
    network = load_weights(weights_file, arch)
    try:
        return network if network.arch == arch else extract(network, arch)
    except (AttributeError, RuntimeError, ValueError, KeyError):
        held = difference(network.arch, arch)
        raise ValueError(f"{weights_file}: does not hold that arch: {held}") from None


class _Scorer:
    """Scores archs with inherited weights; the crops are made at the first."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.file = supernet_file(experiment)
        if not self.file.exists():
            raise ValueError(f"{self.file}: no supernet; run `vipnas train-supernet` first")
        self.supernet = load_network(self.file, experiment.space.max_arch())

    def settings(self) -> dict[str, Any]:
        """All that a trial of the search depends on."""
        return {
            "seed": self.experiment.config.seed,
            "search": to_plain(self.experiment.config.search),
            "supernet": digest(self.file),
            "search_persons": len(self.experiment.search_data.persons),
            "flip_test": self.experiment.config.flip_test,
            "codec": self.experiment.config.codec,
            "evaluation_batch_size": self.experiment.config.evaluation_batch_size,
        }

    @cached_property
    def score(self) -> InheritedScore:
        return InheritedScore(
            self.supernet.to(self.experiment.device),
            self.experiment.evaluator("search"),
            self.experiment.calibration_images,
        )

    def __call__(self, arch: Arch) -> float:
        return self.score(arch)


def _train(
    experiment: Experiment,
    directory: Path,
    network: PoseNet,
    schedule: Schedule,
    backward: Backward,
    settings: dict[str, Any],
) -> PoseNet:
    """Train from the checkpoint in `directory`, or from the start; returns the averaged network."""
    crops = experiment.training_crops
    num_steps = schedule.num_steps(len(crops))
    training = Training(network, schedule, num_steps)
    minutes = experiment.config.checkpoint_minutes
    checkpoint = CheckpointFile(directory / "checkpoint.pt", settings, minutes)
    checkpoint.resume(training)
    workers = experiment.config.data.num_workers
    with Monitor(directory.name, directory, training.step, num_steps) as monitor:
        training.run(
            lambda first, count: training_batches(
                crops, schedule.batch_size, first, count, workers
            ),
            backward,
            checkpoint,
            monitor,
        )
    return training.averaged


def is_done(target: Path, settings: dict[str, Any]) -> bool:
    """Whether the result is there; raises ValueError if it was made with other settings."""
    if not target.exists():
        return False
    found = json.loads(load_checkpoint(target)["found"]["settings"])
    check_settings(found, settings, target)
    print(f"{target.parent.name}: done already; {target}")
    return True


def _needed(section: Section | None, name: str) -> Section:
    if section is None:
        raise ValueError(f"the experiment has no section {name}, which this command needs")
    return section


def digest_of(path: Path | None) -> str | None:
    return None if path is None else digest(path)


def write_trial(path: Path, trial: Trial, experiment: Experiment) -> None:
    found = {key: value for key, value in to_plain(trial).items() if key != "arch"}
    write_arch(path, trial.arch, space=experiment.space.name, seed=experiment.config.seed, **found)


def _show_trial(trial: Trial, num_trials: int) -> None:
    result = f"score {trial.score:.4f}" if trial.score is not None else f"failed: {trial.failure}"
    print(
        f"search: {trial.method} {trial.number + 1}/{num_trials}: {result}, {trial.cost},"
        f" {trial.seconds:.1f} s",
        flush=True,
    )


@contextmanager
def timed(directory: Path) -> Iterator[None]:
    """Add the seconds spent inside to `seconds.json`; a part that was killed is not counted."""
    started = time.monotonic()
    try:
        yield
    finally:
        path = directory / "seconds.json"
        before = read_json(path) if path.exists() else 0.0
        write_atomically(path, json.dumps(round(before + time.monotonic() - started, 1)) + "\n")


def read_metrics(path: Path) -> Metrics:
    return Metrics(**read_json(path))


def evaluate(
    experiment: Experiment,
    weights: Path,
    arch_file: Path | None,
    split: Split,
    pictures: Path | None = None,
) -> Metrics:
    """The ten COCO figures of a file of weights on the `test` or the `search` persons.

    With an arch file, weights of a larger network give its slice, calibrated first. `pictures` is
    a PNG to write, of predictions on persons spread over the set.
    """
    wanted = None if arch_file is None else read_arch(arch_file)
    held = load_weights(weights, wanted)
    network = held if wanted is None else inherit(weights, wanted)
    for name in ("input_hw", "heatmap_hw", "num_keypoints"):
        found, needed = (getattr(a, name) for a in (network.arch, experiment.space.max_arch()))
        if found != needed:
            raise ValueError(f"{weights}: {name}: found {found}, the experiment's is {needed}")
    network = network.to(experiment.device)
    if network.arch != held.arch:
        batch_size = experiment.config.evaluation_batch_size
        calibrate_bn(network, experiment.calibration_images, batch_size)
    evaluator = experiment.evaluator(split)
    if pictures is not None:
        _draw_predictions(pictures, evaluator, network)
    return evaluator(network)


def _draw_predictions(path: Path, evaluator: Evaluator, network: PoseNet, count: int = 16) -> None:
    persons = evaluator.crops.persons
    xy_NK2, scores_NK = evaluator.predict(network)
    rows = [len(persons) * i // min(count, len(persons)) for i in range(min(count, len(persons)))]
    shown = [persons[row] for row in rows]
    prediction_sheet(path, shown, xy_NK2[rows], scores_NK[rows], evaluator.skeleton)
