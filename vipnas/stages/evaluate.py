"""Measure any file of weights."""

from __future__ import annotations

from pathlib import Path

from vipnas.arch import read_arch
from vipnas.deploy.draw import prediction_sheet
from vipnas.evaluation.evaluator import Evaluator, calibrate_bn
from vipnas.experiment import Experiment, Split
from vipnas.models.posenet import PoseNet
from vipnas.results import Metrics
from vipnas.training.checkpoint import inherit, load_weights


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
