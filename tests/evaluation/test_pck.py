from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vipnas.data.formats.skeletons import COCO_17, read_skeleton
from vipnas.evaluation.pck import (
    NOT_IN_MPII_MEAN,
    PCK_THRESHOLD,
    PCKH_THRESHOLD,
    head_box_sizes,
    head_sizes,
    pck,
    torso_sizes,
)


def test_by_hand() -> None:
    truth = np.array([[[10, 10, 2], [20, 20, 1], [30, 30, 0]], [[0, 0, 2], [5, 5, 2], [9, 9, 0]]])
    predicted = np.array([[[12, 10], [20, 23], [90, 90]], [[0, 0.0], [5, 10], [9, 9]]])
    # Limits: 0.2 * 10 = 2 px (2 is in, 3 is out) and 0.2 * 30 = 6 px.
    found = pck(predicted, truth, np.array([10.0, 30.0]), 0.2)
    assert found.by_joint == (1.0, 0.5, -1.0)
    assert (found.mean, found.num_labelled, found.num_unmeasured) == (0.75, 4, 0)
    assert str(found) == "PCK 0.750 over 4 labelled joints"
    without = pck(predicted, truth, np.array([10.0, 30.0]), 0.2, left_out=[1])
    assert (without.mean, without.num_labelled) == (1.0, 2)
    assert without.by_joint == found.by_joint


def test_persons_without_a_size_are_counted_apart() -> None:
    truth = np.full((3, 2, 3), 1.0)
    found = pck(truth[..., :2], truth, np.array([1.0, math.nan, 2.0]), 0.5)
    assert (found.mean, found.num_labelled, found.num_unmeasured) == (1.0, 4, 1)
    nobody = pck(truth[..., :2], truth, np.full(3, math.nan), 0.5)
    assert (nobody.mean, nobody.by_joint, nobody.num_labelled) == (-1.0, (-1.0, -1.0), 0)


def test_sizes_by_hand() -> None:
    lsp = read_skeleton("lsp_14")
    truth = np.zeros((2, 14, 3))
    truth[0, lsp.joints.index("left_shoulder")] = (3, 0, 2)
    truth[0, lsp.joints.index("right_hip")] = (0, 4, 1)
    truth[0, lsp.joints.index("neck")] = (10, 20, 2)
    truth[0, lsp.joints.index("head_top")] = (10, 8, 2)
    assert torso_sizes(truth, lsp)[0] == 5 and np.isnan(torso_sizes(truth, lsp)[1])
    assert head_sizes(truth, lsp)[0] == 12 and np.isnan(head_sizes(truth, lsp)[1])
    assert head_box_sizes(np.array([[7, 7, 30, 40.0]])).tolist() == [30]  # 0.6 * 50
    with pytest.raises(
        ValueError, match="coco_17: expected a joint neck or upper_neck or head_bottom"
    ):
        head_sizes(np.zeros((1, 17, 3)), COCO_17)


def test_mpii_leaves_two_joints_out_of_its_mean() -> None:
    mpii = read_skeleton("mpii_16")
    assert [mpii.joints.index(name) for name in NOT_IN_MPII_MEAN] == [6, 7]


@pytest.mark.parametrize(
    ("predicted", "sizes", "message"),
    [
        (
            np.zeros((2, 3, 2)),
            np.ones(1),
            "predictions: expected as many as labelled persons .2. and sizes .1., got 2",
        ),
        (
            np.full((2, 3, 2), math.inf),
            np.ones(2),
            "predictions: expected finite numbers, got others",
        ),
    ],
)
def test_what_cannot_be_scored_is_refused(predicted: Any, sizes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pck(predicted, np.ones((2, 3, 3)), sizes, 0.5)


def test_ground_truth_as_prediction_is_perfect_on_real_labels(vipnas_data: Path) -> None:
    lsp = read_skeleton("lsp_14")
    annotations = json.loads((vipnas_data / "lspet" / "test.json").read_text())["annotations"]
    truth = np.array([annotation["lsp14"] for annotation in annotations]).reshape(-1, 14, 3)
    for sizes, threshold in (
        (torso_sizes(truth, lsp), PCK_THRESHOLD),
        (head_sizes(truth, lsp), PCKH_THRESHOLD),
    ):
        found = pck(truth[..., :2], truth, sizes, threshold)
        assert found.mean == 1.0 and found.num_labelled > 5000
        noise = np.random.default_rng(0).normal(0, 10, truth[..., :2].shape)
        assert 0.05 < pck(truth[..., :2] + noise, truth, sizes, threshold).mean < 0.95
