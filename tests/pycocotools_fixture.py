"""The reference evaluation of COCO keypoints."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from vipnas.data.formats.skeletons import COCO_17


def by_pycocotools(
    ground_truth: dict[str, Any],
    results: list[dict[str, Any]],
    sigmas: Sequence[float] = COCO_17.sigmas,
) -> list[float]:
    """Its ten metrics, AP first; skips the test where it is not installed."""
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = copy.deepcopy(ground_truth)
        truth.createIndex()
        evaluation = cocoeval.COCOeval(truth, truth.loadRes(copy.deepcopy(results)), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(metric) for metric in evaluation.stats]
