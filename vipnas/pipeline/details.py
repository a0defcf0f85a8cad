"""Files beside the test metrics of a network: `details.json`, and pictures of predictions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vipnas.evaluation.details import details_of
from vipnas.evaluation.evaluator import Evaluator
from vipnas.evaluation.oks import own_similarities
from vipnas.files import to_plain, write_atomically
from vipnas.viz.sheets import prediction_sheet

# N people, K joints

NUM_PICTURED = 6


def write_details(
    folder: Path, evaluator: Evaluator, xy_NK2: NDArray[np.float64], scores_NK: NDArray[np.float32]
) -> None:
    """Write `details.json`, and `predictions_best.png`, `_median.png` and `_worst.png`.

    Pictures have labels above predictions, of the people whose similarity is best, in the middle
    and worst. All joints are drawn, whatever their score. Pictures need annotated boxes: a box of a
    detector belongs to nobody.

    Args:
        folder: Where the files go.
        evaluator: Scored the network.
        xy_NK2: Its predictions in image pixels.
        scores_NK: Their scores.
    """
    results = evaluator.results_of(xy_NK2, scores_NK)
    details = details_of(evaluator.ground_truth, results, evaluator.skeleton)
    write_atomically(folder / "details.json", json.dumps(to_plain(details)) + "\n")
    if evaluator.box_scores_N is not None:
        return
    persons = evaluator.crops.persons
    truth_NK3 = np.array([person.keypoints_K3 for person in persons])
    areas_N = np.array([person.area for person in persons])
    similarities_N = own_similarities(xy_NK2, truth_NK3, areas_N, evaluator.skeleton.sigmas)
    order = np.argsort(-similarities_N, kind="stable")[: int((~np.isnan(similarities_N)).sum())]
    middle = max(0, (len(order) - NUM_PICTURED) // 2)
    for name, chosen in {
        "best": order[:NUM_PICTURED],
        "median": order[middle : middle + NUM_PICTURED],
        "worst": order[::-1][:NUM_PICTURED],
    }.items():
        if len(chosen):
            prediction_sheet(
                folder / f"predictions_{name}.png",
                [persons[number] for number in chosen],
                xy_NK2[chosen],
                scores_NK[chosen],
                evaluator.skeleton,
                min_score=0.0,
            )
