from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vipnas.data.formats.skeletons import COCO_17
from vipnas.evaluation.oks import mean_similarity, oks_nms, pose_similarity, soft_oks_nms, suppress

SIGMAS = np.array(COCO_17.sigmas)


def poses(rng: np.random.Generator, num: int) -> Any:
    return rng.uniform(0, 60, (num, 17, 2)), rng.uniform(500, 5000, num)


def test_similarity_is_the_formula_joint_by_joint() -> None:
    rng = np.random.default_rng(0)
    (first, first_areas), (second, second_areas) = poses(rng, 4), poses(rng, 3)
    found = pose_similarity(first, first_areas, second, second_areas, COCO_17.sigmas)
    assert found.shape == (4, 3)
    for n in range(4):
        for m in range(3):
            area = (first_areas[n] + second_areas[m]) / 2
            terms = [
                math.exp(
                    -(math.dist(first[n, k], second[m, k]) ** 2) / (2 * (2 * SIGMAS[k]) ** 2 * area)
                )
                for k in range(17)
            ]
            assert found[n, m] == pytest.approx(sum(terms) / 17)


def test_only_counted_joints_make_the_similarity() -> None:
    rng = np.random.default_rng(1)
    (first, areas), second = poses(rng, 2), poses(rng, 2)[0]
    second[:, :5] = first[:, :5]
    counted = np.zeros((2, 17), bool)
    counted[0, :5] = True
    found = pose_similarity(first, areas, second, areas, COCO_17.sigmas, counted)
    assert found[0, 0] == pytest.approx(1)
    assert found[:, 1].tolist() == [0, 0]  # nothing counted
    in_pairs = np.stack((counted, counted[::-1]))  # other joints for the second of the first set
    found_in_pairs = pose_similarity(first, areas, second, areas, COCO_17.sigmas, in_pairs)
    assert found_in_pairs[0].tolist() == found[0].tolist()
    swapped = pose_similarity(first, areas, second, areas, COCO_17.sigmas, counted[::-1])
    assert found_in_pairs[1].tolist() == swapped[1].tolist()


def test_mean_similarity_is_of_each_person_to_his_own_labels() -> None:
    rng = np.random.default_rng(2)
    (found, areas), (truth, _) = poses(rng, 3), poses(rng, 3)
    labels = np.concatenate((truth, np.full((3, 17, 1), 2.0)), axis=2)
    pairs = pose_similarity(found, areas, truth, areas, COCO_17.sigmas)
    every_joint = mean_similarity(found, labels, areas, COCO_17.sigmas)
    assert every_joint == pytest.approx(np.diag(pairs).mean())
    labels[0, 5:, 2] = 0  # not labelled
    labels[0, :5, :2] = found[0, :5]
    labels[1, :, 2] = 0
    without = mean_similarity(found, labels, areas, COCO_17.sigmas)
    assert without == pytest.approx((1 + pairs[2, 2]) / 2)
    labels[..., 2] = 0
    assert mean_similarity(found, labels, areas, COCO_17.sigmas) == 0


SIMILARITY = np.array([[1.0, 0.95, 0.2], [0.95, 1.0, 0.3], [0.2, 0.3, 1.0]])


def test_hard_suppression_by_hand() -> None:
    kept, scores = oks_nms(SIMILARITY, np.array([0.5, 0.9, 0.1]), 0.9)
    assert kept.tolist() == [1, 2] and scores.tolist() == [0.9, 0.1]
    kept, _ = oks_nms(SIMILARITY, np.array([0.5, 0.9, 0.1]), 0.95)  # as alike is not more alike
    assert kept.tolist() == [1, 0, 2]
    kept, _ = oks_nms(SIMILARITY, np.array([0.5, 0.5, 0.5]), 0.9)
    assert kept.tolist() == [0, 2]  # the earlier of equals


def test_soft_suppression_by_hand() -> None:
    given_scores = np.array([0.5, 0.9, 0.4])
    kept, scores = soft_oks_nms(SIMILARITY, given_scores, 0.5)
    third = 0.4 * math.exp(-(0.3**2) / 0.5)
    first = 0.5 * math.exp(-(0.95**2) / 0.5) * math.exp(-(0.2**2) / 0.5)
    assert kept.tolist() == [1, 2, 0]
    assert scores.tolist() == pytest.approx([0.9, third, first])
    assert given_scores.tolist() == [0.5, 0.9, 0.4]


@settings(max_examples=30)
@given(st.integers(0, 30), st.integers(0, 1000), st.floats(0.1, 0.99))
def test_suppression_holds_what_it_promises(num: int, seed: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    similarity = rng.uniform(0, 1, (num, num))
    similarity = np.maximum(similarity, similarity.T)
    np.fill_diagonal(similarity, 1)
    scores = rng.uniform(0, 1, num)
    kept, kept_scores = oks_nms(similarity, scores, threshold)
    assert (np.diff(kept_scores) <= 0).all()
    among = similarity[np.ix_(kept, kept)] - np.eye(len(kept))
    assert (among <= threshold).all()
    for gone in set(range(num)) - set(kept.tolist()):
        better = kept[scores[kept] >= scores[gone]]
        assert (similarity[gone, better] > threshold).any()
    kept, kept_scores = soft_oks_nms(similarity, scores, threshold)
    assert len(set(kept.tolist())) == len(kept) == min(num, 20)
    assert (kept_scores <= scores[kept]).all() and (np.diff(kept_scores) <= 0).all()


def result(image_id: int, xy_K2: Any, score: float) -> dict[str, Any]:
    keypoints = np.concatenate((xy_K2, np.ones((17, 1))), axis=1).ravel().tolist()
    return {"image_id": image_id, "category_id": 1, "keypoints": keypoints, "score": score}


def test_people_found_twice_are_left_out_image_by_image() -> None:
    xy = np.random.default_rng(2).uniform(0, 50, (17, 2))
    results = [
        result(7, xy, 0.3),
        result(5, xy, 0.9),
        result(7, xy + 0.1, 0.8),
        result(7, xy + 40, 0.5),
    ]
    areas = np.full(4, 2000.0)
    kept = suppress(results, areas, COCO_17)
    assert [(entry["image_id"], entry["score"]) for entry in kept] == [(7, 0.8), (7, 0.5), (5, 0.9)]
    assert kept[0]["keypoints"] == results[2]["keypoints"]
    soft = suppress(results, areas, COCO_17, "soft")
    assert [entry["image_id"] for entry in soft] == [7, 7, 7, 5]
    assert soft[2]["score"] == pytest.approx(0.3 * math.exp(-1 / 0.9), rel=0.01)
    assert [entry["score"] for entry in results] == [0.3, 0.9, 0.8, 0.5]
    assert suppress([], np.zeros(0), COCO_17) == []


def test_unknown_methods_and_thresholds_are_refused() -> None:
    with pytest.raises(ValueError, match="suppression: expected .* got 'sof' .did you mean 'soft'"):
        suppress([], np.zeros(0), COCO_17, "sof")
    with pytest.raises(ValueError, match="suppression threshold: expected a number above 0, got 0"):
        suppress([], np.zeros(0), COCO_17, threshold=0)
