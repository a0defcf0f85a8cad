"""The sections on accuracy: by joint, by size, by recall, and predictions as pictures."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vipnas.data.crops.images import read_image
from vipnas.report.blocks import (
    UNKNOWN,
    Block,
    Chart,
    Charts,
    Drawing,
    Folded,
    Pictures,
    Section,
    Series,
    Table,
    missing,
)
from vipnas.report.rows import Bar, draw_bars
from vipnas.report.runs import LevelRun
from vipnas.report.searches import colour_of

SIZES = {"": "all", "_medium": "32 to 96 px", "_large": "above 96 px"}
# Thresholds of the similarity in the chart of precision and recall.
THRESHOLDS = ("0.50", "0.75", "0.90")
PICTURES = ("best", "median", "worst", "frames")
JPEG_QUALITY = 82


def accuracy(runs: Sequence[LevelRun]) -> Section | None:
    """Return the section; None without a retrained network."""
    measured = [run for run in runs if run.test_metrics]
    if not measured:
        return None
    blocks: list[Block] = list(_by_size(measured))
    for number, run in enumerate(measured):
        own = list(_by_joint(run))
        if own and number:
            own = [Folded(f"AP by joint of {run.name}", own)]
        blocks += own
    if series := [
        one
        for number, run in enumerate(measured)
        for one in _recall(run, number, len(measured) > 1)
    ]:
        chart = Chart("precision over recall", "recall", "precision", series)
        blocks.append(Charts([chart]))
    if not any(run.details for run in measured) and not measured[0].is_clip:
        text = "AP by joint and precision come with the test metrics of `vipnas retrain`. "
        blocks.append(missing(text + "For this run, remove `retrain/metrics.json` first."))
    lead = "Metrics of the retrained network on the test split."
    return Section("accuracy", "Where it is right and wrong", lead, blocks)


def _by_size(runs: Sequence[LevelRun]) -> Iterator[Block]:
    rows = []
    for run in runs:
        coco: Mapping[str, Any] = run.test_metrics.get("coco", run.test_metrics)
        for suffix, size in SIZES.items():
            values = [coco.get(f"{name}{suffix}", -1.0) for name in ("ap", "ar")]
            if max(values) >= 0:
                name = f"{run.name}, {size}" if len(runs) > 1 else size
                rows.append([name, *(f"{v:.3f}" if v >= 0 else UNKNOWN for v in values)])
    if rows:
        yield Table(["size of a person", "AP", "AR"], rows)


def _by_joint(run: LevelRun) -> Iterator[Block]:
    """Yield the AP of each joint: of COCO for images, of PoseTrack for clips."""
    found: dict[str, float] = run.details.get("ap_by_joint", {})
    caption = "AP by joint: COCO AP where only this joint is labelled."
    if not found:
        found = run.test_metrics.get("posetrack", {}).get("by_joint", {})
        caption = "AP by joint, by the protocol of PoseTrack."
    if found:
        bars = [
            Bar(name.replace("_", " "), max(ap, 0.0), f"{ap:.3f}") for name, ap in found.items()
        ]
        yield Drawing(draw_bars(bars), caption)


def _recall(run: LevelRun, number: int, several: bool) -> Iterator[Series]:
    """Yield a curve for each threshold; of several runs the lowest only, in the run's colour."""
    precision: dict[str, list[float]] = run.details.get("precision", {})
    for place, threshold in enumerate(THRESHOLDS[:1] if several else THRESHOLDS):
        if values := precision.get(threshold):
            recalls = np.linspace(0, 1, len(values)).tolist()
            name = f"{run.name}, OKS {threshold}" if several else f"OKS {threshold}"
            yield Series(name, recalls, values, colour_of(number if several else place))


def predictions(runs: Sequence[LevelRun]) -> Section | None:
    """Return the section with predictions as pictures; None without them."""
    pictures = [
        (_jpeg(path), f"{run.name}: {name}")
        for run in runs
        for name in PICTURES
        if (path := run.retrain / f"predictions_{name}.png").is_file()
    ]
    if not pictures:
        return None
    lead = "Test persons, by the similarity of their predictions. Labels are above."
    if runs[0].is_clip:
        lead = "The first test video. Boxes are yellow in key frames, cyan in follow-up frames."
    return Section("predictions", "Predictions", lead, [Pictures(pictures)])


def _jpeg(path: Path) -> str:
    """Return a picture as a `data:` address; as JPEG it is a fifth as large."""
    picture_HW3 = cv2.cvtColor(read_image(path), cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", picture_HW3, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"
