"""Measure any model, or a file of results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vipnas.data.formats.results import read_results, write_results
from vipnas.errors import UserError
from vipnas.evaluation.evaluator import Evaluator
from vipnas.evaluation.protocols import DEFAULT_RULES, Rules, Score, protocols_for, score
from vipnas.pipeline.experiment import Experiment, Split
from vipnas.pipeline.models import finite_heatmaps_of, open_model
from vipnas.viz.sheets import prediction_sheet


def evaluate(
    experiment: Experiment,
    model: Path,
    arch_file: Path | None = None,
    split: Split = "test",
    metrics: Sequence[str] | None = None,
    pictures: Path | None = None,
    results_file: Path | None = None,
    rules: Rules = DEFAULT_RULES,
) -> dict[str, Score]:
    """Return the metrics of any model on the `test` or the `val` persons, by protocol.

    Args:
        model: A file that `vipnas.load` opens. An exported file runs in the runtime it is for, on
            the CPU.
        arch_file: Of a supernet, the subnet; by default the largest. It is calibrated first.
        metrics: Names of `vipnas.evaluation.protocols`, by default all that the data allow.
        pictures: A PNG to write, of predictions on persons spread over the set.
        results_file: JSON in COCO results form to write, of all that was found.
        rules: How the protocols count.
    """
    opened = open_model(experiment, model, arch_file)
    network, experiment = opened.heatmap_network(), experiment.at(opened.arch)
    data = experiment.data_of(split)
    protocols = protocols_for(data, metrics)  # before it runs over all images for nothing
    evaluator = experiment.evaluator(split)
    with finite_heatmaps_of(model):
        xy_NK2, scores_NK = evaluator.predict(network)
    if pictures is not None:
        _draw_predictions(pictures, evaluator, xy_NK2, scores_NK)
    results = evaluator.results_of(xy_NK2, scores_NK)
    if results_file is not None:
        write_results(results_file, results)
    return score(data, results, protocols, rules)


def evaluate_results(
    experiment: Experiment,
    results_file: Path,
    split: Split = "test",
    metrics: Sequence[str] | None = None,
    rules: Rules = DEFAULT_RULES,
) -> dict[str, Score]:
    """Return the metrics of any file in the COCO results format. No image needs to exist."""
    data = replace(experiment, check_images=False).data_of(split)
    results = read_results(results_file, experiment.skeleton, data)
    protocols = protocols_for(data, metrics)
    try:
        return score(data, results, protocols, rules)
    except UserError as error:
        raise error.inside(str(results_file)) from None
    except ValueError as error:
        raise ValueError(f"{results_file}: {error}") from None


def _draw_predictions(
    path: Path,
    evaluator: Evaluator,
    xy_NK2: NDArray[np.float64],
    scores_NK: NDArray[np.float32],
    count: int = 16,
) -> None:
    persons = evaluator.crops.persons
    rows = [len(persons) * i // min(count, len(persons)) for i in range(min(count, len(persons)))]
    shown = [persons[row] for row in rows]
    prediction_sheet(path, shown, xy_NK2[rows], scores_NK[rows], evaluator.skeleton)
