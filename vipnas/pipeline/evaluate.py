"""Measure any file of weights, or of results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from vipnas.arch.image import Arch
from vipnas.arch.io import read_arch
from vipnas.data.formats.results import read_results, write_results
from vipnas.evaluation.evaluator import Evaluator, calibrate_bn
from vipnas.evaluation.protocols import Score, protocols_for, score
from vipnas.pipeline.experiment import Experiment, Split
from vipnas.runtimes.exported import ExportedNetwork, is_exported
from vipnas.training.checkpoint import inherit, load_weights
from vipnas.viz.sheets import prediction_sheet


def evaluate(
    experiment: Experiment,
    weights: Path,
    arch_file: Path | None = None,
    split: Split = "test",
    metrics: Sequence[str] | None = None,
    pictures: Path | None = None,
    results_file: Path | None = None,
) -> dict[str, Score]:
    """The figures of a file of weights on the `test` or the `search` persons, by protocol.

    With an arch file, weights of a larger network give its slice, calibrated first. An exported
    file runs in the runtime it is for, on the CPU. `metrics` are names of
    `vipnas.evaluation.protocols`, by default all that the data allow. `pictures` is a PNG to write,
    of predictions on persons spread over the set; `results_file` a JSON in COCO results form, of
    all that was found.
    """
    network = _network(experiment, weights, arch_file)
    data = experiment.data_of(split)
    protocols = protocols_for(data, metrics)  # before it runs over all images for nothing
    evaluator = experiment.evaluator(split)
    if pictures is not None:
        _draw_predictions(pictures, evaluator, network)
    results = evaluator.results(network)
    if results_file is not None:
        write_results(results_file, results)
    return score(data, results, protocols)


def evaluate_results(
    experiment: Experiment,
    results_file: Path,
    split: Split = "test",
    metrics: Sequence[str] | None = None,
) -> dict[str, Score]:
    """The figures of a file in COCO results form, whoever made it. No image needs to exist."""
    data = replace(experiment, check_images=False).data_of(split)
    results = read_results(results_file, experiment.skeleton, data)
    protocols = protocols_for(data, metrics)
    try:
        return score(data, results, protocols)
    except ValueError as error:
        raise ValueError(f"{results_file}: {error}") from None


def _network(experiment: Experiment, weights: Path, arch_file: Path | None) -> nn.Module:
    if is_exported(weights):
        if arch_file is not None:
            raise ValueError(f"{weights}: is exported: it cannot be sliced to {arch_file}")
        exported = ExportedNetwork(weights, torch.get_num_threads())
        _check_facts(experiment, exported.arch, weights)
        return exported
    wanted = None if arch_file is None else read_arch(arch_file)
    held = load_weights(weights, wanted)
    network = held if wanted is None else inherit(weights, wanted)
    _check_facts(experiment, network.arch, weights)
    network = network.to(experiment.device)
    if network.arch != held.arch:
        batch_size = experiment.config.evaluation_batch_size
        calibrate_bn(network, experiment.calibration_images, batch_size)
    return network


def _check_facts(experiment: Experiment, arch: Arch, weights: Path) -> None:
    for name in ("input_hw", "heatmap_hw", "num_keypoints"):
        found, needed = (getattr(a, name) for a in (arch, experiment.space.max_arch()))
        if found != needed:
            raise ValueError(f"{weights}: {name}: found {found}, the experiment's is {needed}")


def _draw_predictions(
    path: Path, evaluator: Evaluator, network: nn.Module, count: int = 16
) -> None:
    persons = evaluator.crops.persons
    xy_NK2, scores_NK = evaluator.predict(network)
    rows = [len(persons) * i // min(count, len(persons)) for i in range(min(count, len(persons)))]
    shown = [persons[row] for row in rows]
    prediction_sheet(path, shown, xy_NK2[rows], scores_NK[rows], evaluator.skeleton)
