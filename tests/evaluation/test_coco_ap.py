from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools_fixture import by_pycocotools

from vipnas.data.formats.coco import Person, read_coco
from vipnas.data.formats.results import keypoint_results
from vipnas.data.formats.skeletons import COCO_17
from vipnas.evaluation.coco_ap import (
    ap_difference_interval,
    ap_interval,
    ap_samples,
    coco_metrics,
    pycocotools_metrics,
)
from vipnas.evaluation.metrics import Metrics

needs_data = pytest.mark.skipif(
    "VIPNAS_DATA" not in os.environ, reason="VIPNAS_DATA does not name the folder of real data"
)


Case = tuple[dict[str, Any], list[dict[str, Any]]]


def random_case(seed: int, num_images: int = 30) -> Case:
    """Ground truth with crowds, unlabelled and unseen people, and results of every quality."""
    rng = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image_id in range(num_images):
        for _ in range(rng.integers(0, 6)):
            x, y = rng.uniform(0, 400, 2)
            width, height = rng.uniform(10, 250, 2)
            keypoints = np.zeros((17, 3))
            keypoints[:, :2] = rng.uniform((x, y), (x + width, y + height), (17, 2)).round(2)
            keypoints[:, 2] = rng.integers(0, 3, 17) * (rng.random() > 0.15)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "iscrowd": int(rng.random() < 0.1),
                    "bbox": [x, y, width, height],
                    "area": 0.6 * width * height,
                    "keypoints": keypoints.ravel().tolist(),
                    "num_keypoints": int((keypoints[:, 2] > 0).sum()),
                }
            )
            for _ in range(rng.integers(0, 4)):
                found = keypoints.copy()
                found[:, :2] += rng.normal(0, rng.choice([1, 4, 15]), (17, 2))
                results.append(
                    {
                        "image_id": image_id,
                        "category_id": 1,
                        "keypoints": found.ravel().tolist(),
                        "score": float(rng.choice([rng.random(), 0.5])),  # with ties
                    }
                )
    images = [{"id": image_id, "width": 640, "height": 480} for image_id in range(num_images)]
    categories = [{"id": 1, "name": "person"}]
    return {"images": images, "annotations": annotations, "categories": categories}, results


@pytest.mark.parametrize("seed", range(5))
def test_all_ten_figures_are_bit_for_bit_those_of_pycocotools(seed: int) -> None:
    ground_truth, results = random_case(seed)
    metrics = coco_metrics(ground_truth, results, COCO_17)
    assert list(astuple(metrics)) == by_pycocotools(ground_truth, results)
    assert 0.1 < metrics.ap < 0.9  # the case says something


def test_so_are_those_of_small_sets_where_one_detection_decides() -> None:
    """The best is right, the second is wrong: pycocotools' precision is then not quite 1."""
    num_lonely = 0
    for seed in range(100, 160):
        ground_truth, results = random_case(seed, num_images=1 + seed % 5)
        if not results:
            continue  # pycocotools does not take them
        metrics = coco_metrics(ground_truth, results, COCO_17)
        expected = by_pycocotools(ground_truth, results)
        assert list(astuple(metrics)) == expected, seed
        num_lonely += any(0 < 1 - figure < 1e-12 for figure in expected)
    assert num_lonely > 0  # the cases hold such figures


def test_the_official_figures_are_those_of_pycocotools() -> None:
    ground_truth, results = random_case(3)
    given = copy.deepcopy((ground_truth, results))
    metrics = pycocotools_metrics(ground_truth, results, COCO_17)
    assert list(astuple(metrics)) == by_pycocotools(ground_truth, results)
    assert (ground_truth, results) == given
    assert pycocotools_metrics(ground_truth, [], COCO_17).ap == 0
    with pytest.raises(ValueError, match="result 0: keypoints: expected 51 numbers, got 3"):
        broken = {**results[0], "keypoints": [1, 2, 3]}
        pycocotools_metrics(ground_truth, [broken], COCO_17)


def test_results_that_are_not_numbers_are_refused() -> None:
    ground_truth, results = random_case(1, num_images=5)
    results[3]["keypoints"][7] = float("nan")
    with pytest.raises(ValueError, match="result 3: expected finite numbers, got others"):
        coco_metrics(ground_truth, results, COCO_17)
    results[3]["keypoints"][7] = 1.0
    results[2]["score"] = float("inf")
    with pytest.raises(ValueError, match="result 2: expected finite numbers, got others"):
        coco_metrics(ground_truth, results, COCO_17)


def test_sigmas_are_those_of_the_skeleton() -> None:
    ground_truth, results = random_case(7)
    strict = replace(COCO_17, sigmas=tuple(sigma / 2 for sigma in COCO_17.sigmas))
    metrics = coco_metrics(ground_truth, results, strict)
    assert list(astuple(metrics)) == by_pycocotools(ground_truth, results, strict.sigmas)
    assert metrics.ap < coco_metrics(ground_truth, results, COCO_17).ap


def test_arguments_are_left_as_they_were_and_nothing_is_printed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    ground_truth, results = random_case(1, num_images=5)
    before = copy.deepcopy((ground_truth, results))
    coco_metrics(ground_truth, results, COCO_17)
    assert (ground_truth, results) == before
    assert capfd.readouterr() == ("", "")


def test_annotation_ids_do_not_matter_not_even_zero() -> None:
    ground_truth, results = random_case(2)
    expected = coco_metrics(ground_truth, results, COCO_17)
    for number, annotation in enumerate(ground_truth["annotations"]):
        annotation["id"] = number
    assert coco_metrics(ground_truth, results, COCO_17) == expected


def test_no_results_at_all_is_zero() -> None:
    ground_truth, _ = random_case(3)
    assert set(astuple(coco_metrics(ground_truth, [], COCO_17))) == {0.0}


def test_nobody_of_a_size_is_minus_one() -> None:
    ground_truth, results = random_case(4)
    for annotation in ground_truth["annotations"]:
        annotation["area"] = 50.0**2
    metrics = coco_metrics(ground_truth, results, COCO_17)
    assert metrics.ap_large == metrics.ar_large == -1
    assert metrics.ap_medium > 0


def drawn_images(case: Case, numbers: Sequence[int]) -> Case:
    """The case made of the images with these numbers, each draw an image of its own."""
    ground_truth, results = copy.deepcopy(case)
    annotations: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for new_id, number in enumerate(numbers):
        old_id = ground_truth["images"][number]["id"]
        for source, target in ((ground_truth["annotations"], annotations), (results, found)):
            target += [{**e, "image_id": new_id} for e in source if e["image_id"] == old_id]
    images = [{"id": new_id} for new_id in range(len(numbers))]
    return {**ground_truth, "images": images, "annotations": annotations}, found


def test_bootstrap_is_the_evaluation_of_the_drawn_images() -> None:
    case = random_case(8)
    low, high = ap_interval(*case, COCO_17, num_samples=5, seed=3, confidence=1)
    rng = np.random.default_rng(3)
    draws = [rng.integers(0, 30, 30).tolist() for _ in range(5)]
    literal = [coco_metrics(*drawn_images(case, draw), COCO_17).ap for draw in draws]
    assert (low, high) == pytest.approx((min(literal), max(literal)), abs=1e-12)
    # Draw by draw: samples of two networks with one seed are of the same images.
    assert ap_samples(*case, COCO_17, 5, seed=3) == pytest.approx(literal, abs=1e-12)


def test_bootstrap_of_a_difference_draws_whole_videos_and_the_same_for_both() -> None:
    """The limits over five draws are the least and the greatest of five literal differences."""
    case, other = random_case(9), random_case(9)
    for result in other[1][::3]:
        result["keypoints"] = [0.0] * 51
    videos = [list(range(first, first + 5)) for first in (25, 0, 10, 5, 20, 15)]
    low, high = ap_difference_interval(
        *case, other[1], COCO_17, videos, num_samples=5, seed=3, confidence=1
    )
    rng = np.random.default_rng(3)
    differences = []
    for _ in range(5):
        images = [image for video in rng.integers(0, 6, 6) for image in videos[video]]
        mine, theirs = (coco_metrics(*drawn_images(c, images), COCO_17) for c in (case, other))
        differences.append(mine.ap - theirs.ap)
    assert (low, high) == pytest.approx((min(differences), max(differences)), abs=1e-12)
    assert low > 0


def test_bootstrap_interval_holds_the_figure_and_narrows_with_more_images() -> None:
    widths = []
    for num_images in (20, 320):
        case = random_case(9, num_images)
        low, high = ap_interval(*case, COCO_17, num_samples=100)
        assert low < coco_metrics(*case, COCO_17).ap < high
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0] / 4, rel=0.5)  # with the root of the number


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": "1"}, 'result 3: image_id: expected the id of an image .*, got "1"'),
        ({"image_id": 999}, "result 3: image_id: expected the id of an image .*, got 999"),
        ({"keypoints": [0.0] * 48}, "result 3: keypoints: expected 51 numbers, got 48"),
    ],
)
def test_results_that_do_not_belong_are_refused(change: dict[str, Any], message: str) -> None:
    ground_truth, results = random_case(5)
    results[3].update(change)
    with pytest.raises(ValueError, match=message):
        coco_metrics(ground_truth, results, COCO_17)


def person(image_id: int) -> Person:
    return Person(1, image_id, Path("x.jpg"), (0, 0, 1, 1), 1.0, np.zeros((17, 3), np.float32))


def test_a_person_scores_the_mean_of_its_joints_above_the_threshold() -> None:
    scores = np.zeros((3, 17))
    scores[0, :4] = [0.9, 0.5, 0.2, 0.1]  # 0.2 is not above 0.2
    scores[1] = 0.1
    scores[2] = 0.6
    xy = np.arange(3 * 17 * 2, dtype=float).reshape(3, 17, 2)
    results = keypoint_results([person(5), person(6), person(7)], xy, scores)
    assert [result["score"] for result in results] == pytest.approx([0.7, 0.0, 0.6])
    assert [result["image_id"] for result in results] == [5, 6, 7]
    assert results[1]["keypoints"][:6] == [34.0, 35.0, 0.1, 36.0, 37.0, 0.1]
    weighted = keypoint_results([person(5)], xy[:1], scores[:1], np.array([0.5]))
    assert weighted[0]["score"] == pytest.approx(0.35)
    json.dumps(results)  # plain numbers, as a results file needs them


@needs_data
def test_the_published_example_scores_as_documented() -> None:
    folder = Path(os.environ["VIPNAS_DATA"]) / "cocoeval"
    ground_truth = json.loads((folder / "example_coco_val.json").read_text())
    results = json.loads((folder / "example_coco_preds.json").read_text())
    metrics = coco_metrics(ground_truth, results, COCO_17)
    figures = (metrics.ap, metrics.ap50, metrics.ap75, metrics.ap_medium, metrics.ap_large)
    assert [round(figure, 3) for figure in figures] == [0.861, 0.993, 0.911, 0.776, 0.937]
    assert round(metrics.ar, 3) == 0.875
    assert list(astuple(metrics)) == by_pycocotools(ground_truth, results)


@needs_data
@pytest.mark.parametrize(
    ("annotation_file", "image_root"),
    [
        ("coco_sample/person_keypoints_train2017.json", "coco_sample/train2017"),
        ("lspet/test.json", "lspet/images"),
    ],
)
def test_ground_truth_as_prediction_is_perfect(annotation_file: str, image_root: str) -> None:
    root = Path(os.environ["VIPNAS_DATA"])
    data = read_coco(root / annotation_file, root / image_root, COCO_17)
    keypoints = np.stack([person.keypoints_K3 for person in data.persons])
    results = keypoint_results(data.persons, keypoints[..., :2], np.ones(keypoints.shape[:2]))
    metrics = coco_metrics(data.ground_truth, results, COCO_17)
    measured = [figure for figure in astuple(metrics) if figure != -1]
    assert len(measured) >= 8 and measured == pytest.approx([1.0] * len(measured))
    assert isinstance(metrics, Metrics)


def test_training_does_without_the_evaluators() -> None:
    blocked = ("pycocotools", "faster_coco_eval", "ray", "fvcore")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked!r})); "
        "import vipnas.data.crops.loader, vipnas.data.codecs.heatmap, vipnas.evaluation.coco_ap"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
