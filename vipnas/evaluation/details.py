"""Metrics in detail: by joint, by recall, by person, with an interval of the AP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vipnas.arch.skeleton import Skeleton
from vipnas.evaluation.coco_ap import ap_interval, coco_metrics, precision_by_recall
from vipnas.files import Strict

# Bootstrap samples: at most this many, and fewer where there are many images.
NUM_SAMPLES, MOST_DRAWN_IMAGES = 400, 200_000


@dataclass(frozen=True)
class Details(Strict):
    """What `coco_metrics` sums up.

    Attributes:
        num_images: Number of images.
        num_persons: Number of annotated people.
        ap_interval: Bounds of the AP with 95 % confidence, by a bootstrap over images.
        ap_by_joint: The AP where only this joint is labelled, by joint; joints without a label
            are left out.
        precision: The precision at recalls of 0, 0.01 … 1, by the threshold of the similarity.
    """

    num_images: int
    num_persons: int
    ap_interval: tuple[float, float]
    ap_by_joint: dict[str, float]
    precision: dict[str, list[float]]


def details_of(
    ground_truth: dict[str, Any], results: Sequence[dict[str, Any]], skeleton: Skeleton
) -> Details:
    """Compute the details of predictions.

    Args:
        ground_truth: A COCO dict.
        results: Predictions in the COCO results format.
        skeleton: The joints.
    """
    num_images = len(ground_truth["images"])
    num_samples = max(50, min(NUM_SAMPLES, MOST_DRAWN_IMAGES // max(num_images, 1)))
    return Details(
        num_images,
        len(ground_truth["annotations"]),
        ap_interval(ground_truth, results, skeleton, num_samples),
        ap_by_joint(ground_truth, results, skeleton),
        precision_by_recall(ground_truth, results, skeleton),
    )


def ap_by_joint(
    ground_truth: dict[str, Any], results: Sequence[dict[str, Any]], skeleton: Skeleton
) -> dict[str, float]:
    """Return the AP where only one joint is labelled, by joint; those without labels are left out.

    The arguments are those of `details_of`.
    """
    by_joint = {
        name: coco_metrics(only_joint(ground_truth, joint), results, skeleton).ap
        for joint, name in enumerate(skeleton.joints)
    }
    return {name: ap for name, ap in by_joint.items() if ap >= 0}


def only_joint(ground_truth: dict[str, Any], joint: int) -> dict[str, Any]:
    """Return the same annotations, in which only one joint is labelled."""
    annotations = []
    for entry in ground_truth["annotations"]:
        keypoints = [0] * len(entry["keypoints"])
        own = slice(3 * joint, 3 * joint + 3)
        keypoints[own] = entry["keypoints"][own]
        is_labelled = int(bool(keypoints) and keypoints[3 * joint + 2] > 0)
        annotations.append({**entry, "keypoints": keypoints, "num_keypoints": is_labelled})
    return {**ground_truth, "annotations": annotations}
