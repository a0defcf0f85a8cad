"""Average precision and recall of keypoints by the COCO protocol."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vipnas.data.formats.coco import PERSON_CATEGORY
from vipnas.data.formats.json_values import unexpected
from vipnas.data.formats.results import keypoints_of
from vipnas.data.formats.skeletons import Skeleton
from vipnas.errors import UserError
from vipnas.evaluation.metrics import Metrics

METRICS_IN_COCO_ORDER = (
    *("ap", "ap50", "ap75", "ap_medium", "ap_large"),
    *("ar", "ar50", "ar75", "ar_medium", "ar_large"),
)


def coco_metrics(
    ground_truth: dict[str, Any], results: Sequence[dict[str, Any]], skeleton: Skeleton
) -> Metrics:
    """Compute the ten metrics of the COCO keypoint protocol by faster-coco-eval.

    The values equal those of pycocotools. All images of `ground_truth` count, with predictions or
    without. Its categories are scored as one; results of other categories do not count. Neither
    argument is changed.

    Args:
        ground_truth: A COCO dict.
        results: Predictions in the COCO results format.
        skeleton: The joints, with the sigmas of the similarity.

    Returns:
        The metrics; -1 where no person has that size.

    Raises:
        UserError: A result is of an unknown image, or its numbers are too few or not finite.
    """
    evaluation = _evaluation(ground_truth, results, skeleton)
    recall_thresholds = evaluation.params.recThrs
    second = [1.5 / count for count in _num_scored(evaluation)]
    evaluation.params.recThrs = np.concatenate((recall_thresholds, second))
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"]
    evaluation.eval["precision"] = _as_pycocotools_divides(precision, len(recall_thresholds))
    evaluation.summarize()
    return Metrics(**dict(zip(METRICS_IN_COCO_ORDER, map(float, evaluation.stats), strict=True)))


def pycocotools_metrics(
    ground_truth: dict[str, Any], results: Sequence[dict[str, Any]], skeleton: Skeleton
) -> Metrics:
    """Compute the metrics of `coco_metrics` by pycocotools, which must be installed.

    Raises:
        UserError: As for `coco_metrics`.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations = _as_annotations(ground_truth, results, skeleton)
    with redirect_stdout(StringIO()):  # it prints as it goes
        truth, found = COCO(), COCO()
        truth.dataset = {**ground_truth, "annotations": _numbered(ground_truth["annotations"])}
        found.dataset = {**ground_truth, "annotations": annotations}
        for index in (truth, found):
            index.createIndex()
        evaluation = COCOeval(truth, found, "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array(skeleton.sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return Metrics(**dict(zip(METRICS_IN_COCO_ORDER, map(float, evaluation.stats), strict=True)))


def _num_scored(evaluation: Any) -> list[int]:
    """Return how many people count in each range of areas; 1 where nobody does."""
    people = [
        annotation["area"]
        for annotation in evaluation.cocoGt.dataset["annotations"]
        if annotation["num_keypoints"] and not annotation["iscrowd"]
    ]
    return [
        max(sum(low <= area <= high for area in people), 1)
        for low, high in evaluation.params.areaRng
    ]


def _as_pycocotools_divides(
    precision_TRKAM: NDArray[np.float64], num_recalls: int
) -> NDArray[np.float64]:
    """The precisions without the extra recalls, with pycocotools' rounding.

    It divides by the number of detections plus 2.2e-16, which matters for one detection only: where
    the best is right and the second is not, its precision is 1 - 2.2e-16, and not 1. The second is
    right where the precision is still 1 at the extra recall of its range of areas, between one
    person and two.
    """
    precision = precision_TRKAM[:, :num_recalls].copy()
    for area in range(precision.shape[3]):
        at_second_TKM = precision_TRKAM[:, num_recalls + area, :, area]
        lonely = (precision[:, :, :, area] == 1) & (at_second_TKM != 1)[:, None]
        precision[:, :, :, area][lonely] = 1 / (1 + np.spacing(1))
    return precision


def precision_by_recall(
    ground_truth: dict[str, Any], results: Sequence[dict[str, Any]], skeleton: Skeleton
) -> dict[str, list[float]]:
    """Return the precision at recalls of 0, 0.01 … 1 for people of every size.

    The keys are thresholds of the similarity, 0.50 to 0.95. Empty if no person is labelled.
    """
    evaluation = _evaluation(ground_truth, results, skeleton)
    evaluation.evaluate()
    evaluation.accumulate()
    precision_TR = evaluation.eval["precision"][:, :, 0, 0, -1]
    if (precision_TR < 0).all():
        return {}
    pairs = zip(evaluation.params.iouThrs, precision_TR, strict=True)
    return {f"{threshold:.2f}": found_R.round(4).tolist() for threshold, found_R in pairs}


def ap_interval(
    ground_truth: dict[str, Any],
    results: Sequence[dict[str, Any]],
    skeleton: Skeleton,
    num_samples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Bootstrap interval of the AP: how far it could move with other photographs of the kind; the
    limits are percentiles of `ap_samples`."""
    samples = ap_samples(ground_truth, results, skeleton, num_samples, seed)
    return _percentiles(samples, confidence)


def ap_difference_interval(
    ground_truth: dict[str, Any],
    results: Sequence[dict[str, Any]],
    others: Sequence[dict[str, Any]],
    skeleton: Skeleton,
    videos: Sequence[Sequence[int]],
    num_samples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Bootstrap interval of the AP of `results` less that of `others`, on the same draws of whole
    videos (see `ap_samples`)."""
    first, second = (
        ap_samples(ground_truth, found, skeleton, num_samples, seed, videos)
        for found in (results, others)
    )
    return _percentiles(first - second, confidence)


def ap_samples(
    ground_truth: dict[str, Any],
    results: Sequence[dict[str, Any]],
    skeleton: Skeleton,
    num_samples: int = 1000,
    seed: int = 0,
    videos: Sequence[Sequence[int]] | None = None,
) -> NDArray[np.float64]:
    """The AP over images drawn with replacement, because the people in one image are not
    independent; of `videos`, the ids of each one's images, whole ones are drawn, because their
    frames are not. People and joints are matched once only.

    With the same seed the same images are drawn, so that samples of two networks can be subtracted.
    """
    evaluation = _evaluation(ground_truth, results, skeleton)
    evaluation.params.areaRng = evaluation.params.areaRng[:1]  # "all" is all that is looked at
    evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
    evaluation.separate_eval = True
    evaluation.evaluate()
    by_image = evaluation._evalImgs_cpp  # in the order of the ids
    image_ids = sorted({image["id"] for image in ground_truth["images"]})
    place = {image_id: number for number, image_id in enumerate(image_ids)}
    groups = [[place[image] for image in video] for video in videos or [[i] for i in image_ids]]
    rng = np.random.default_rng(seed)
    samples = []
    for _ in range(num_samples):
        drawn = rng.integers(0, len(groups), len(groups))
        evaluation._evalImgs_cpp = [by_image[image] for group in drawn for image in groups[group]]
        evaluation.accumulate()
        precision = evaluation.eval["precision"]
        samples.append(precision[precision > -1].mean() if (precision > -1).any() else -1.0)
    return np.array(samples, np.float64)


def _percentiles(samples: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    outside = 50 * (1 - confidence)
    low, high = np.percentile(samples, (outside, 100 - outside))
    return float(low), float(high)


def _evaluation(
    ground_truth: dict[str, Any], results: Sequence[dict[str, Any]], skeleton: Skeleton
) -> Any:
    # Imported here so that training does not need the evaluator.
    from faster_coco_eval import COCOeval_faster

    return COCOeval_faster(
        _index(ground_truth, _numbered(ground_truth["annotations"])),
        _index(ground_truth, _as_annotations(ground_truth, results, skeleton)),
        iouType="keypoints",
        print_function=_silent,
        kpt_oks_sigmas=list(skeleton.sigmas),
    )


def _index(ground_truth: dict[str, Any], annotations: list[dict[str, Any]]) -> Any:
    from faster_coco_eval import COCO

    index = COCO(print_function=_silent)
    index.dataset = {
        "images": ground_truth["images"],
        "annotations": annotations,
        "categories": [{"id": PERSON_CATEGORY, "name": "person"}],
    }
    index.createIndex()
    return index


def _numbered(annotations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return copies, since the evaluator writes into them, of one category and with ids from 1,
    because the evaluator takes 0 for "unmatched"."""
    return [
        {**entry, "id": number, "category_id": PERSON_CATEGORY}
        for number, entry in enumerate(annotations, start=1)
    ]


def _as_annotations(
    ground_truth: dict[str, Any], results: Sequence[dict[str, Any]], skeleton: Skeleton
) -> list[dict[str, Any]]:
    """Return results with the box and the area that the protocol derives from their joints."""
    category_ids = {category["id"] for category in ground_truth["categories"]}
    results = [result for result in results if result["category_id"] in category_ids]
    if not results:
        return []
    images = {image["id"] for image in ground_truth["images"]}
    for number, result in enumerate(results):
        if result["image_id"] not in images:
            raise unexpected(
                f"result {number}: image_id",
                "the id of an image of the ground truth",
                result["image_id"],
            )
    keypoints_NK3 = keypoints_of(results, skeleton)
    scores_N = np.array([result["score"] for result in results], np.float64)
    finite_N = np.isfinite(keypoints_NK3).all(axis=(1, 2)) & np.isfinite(scores_N)
    if not finite_N.all():
        number = int(np.flatnonzero(~finite_N)[0])
        raise UserError(f"result {number}", "finite numbers", "others")
    low_N2, high_N2 = keypoints_NK3[..., :2].min(axis=1), keypoints_NK3[..., :2].max(axis=1)
    size_N2 = high_N2 - low_N2
    boxes = np.concatenate((low_N2, size_N2), axis=1).tolist()
    areas = (size_N2[:, 0] * size_N2[:, 1]).tolist()
    return [
        {**result, "id": number, "category_id": PERSON_CATEGORY, "bbox": box, "area": area}
        for number, (result, box, area) in enumerate(
            zip(results, boxes, areas, strict=True), start=1
        )
    ]


def _silent(*_: object) -> None:
    """The evaluator prints a table; callers format `Metrics` themselves."""
