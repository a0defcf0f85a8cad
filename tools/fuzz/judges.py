"""Independent judges of runs that end well.

pycocotools for AP, the rules of the PoseTrack kit for mAP and MOTA, Pillow for images.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from statistics import fmean

from PIL import Image, ImageOps

from tools.fuzz import posetrack_rule
from tools.fuzz.posetrack_rule import NUM_JOINTS
from vipnas.data.formats.posetrack import read_posetrack
from vipnas.data.formats.reading import Reading
from vipnas.data.formats.skeletons import read_skeleton

# Takes what a run printed; returns what is wrong, or None.
Judge = Callable[[str], "str | None"]

AP_TOLERANCE = 1e-6
POSETRACK_18 = read_skeleton("posetrack_18")

# pycocotools checks little: for documents of another form it raises any of these.
_PYCOCOTOOLS_RAISES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)


def average_precision_agrees(truth: Path, found: Path) -> Judge:
    """The printed COCO AP is that of pycocotools, where that can score the files."""

    def judge(printed: str) -> str | None:
        ours = json.loads(printed).get("coco")
        theirs = _average_precision(truth, found)
        if ours is None or theirs is None or abs(ours["ap"] - theirs) <= AP_TOLERANCE:
            return None
        return f"AP {ours['ap']:.6f}, that of pycocotools is {theirs:.6f}"

    return judge


def posetrack_agrees(videos: Path, image_root: Path, found: Path) -> Judge:
    """The printed mAP and MOTA are those of the restated rules, on the frames that vipnas reads."""

    def judge(printed: str) -> str | None:
        ours = json.loads(printed)
        data = read_posetrack(videos, image_root, POSETRACK_18, Reading(check_images=False))
        results = json.loads(found.read_text())
        known = {frame.image_id for frame in data.frames}
        persons = {category["id"] for category in data.ground_truth["categories"]}
        results = [
            result
            for result in results
            if result["image_id"] in known and result["category_id"] in persons
        ]
        by_joint = posetrack_rule.average_precisions(data.frames, results)
        values = [("posetrack", fmean(by_joint.values()))]
        if "mota" in ours and all(result.get("track_id") is not None for result in results):
            left_out = set(range(NUM_JOINTS)) - by_joint.keys()
            values.append(("mota", posetrack_rule.mota(data.videos, results, left_out)))
        for protocol, theirs in values:
            mean = ours[protocol]["mean"]
            if abs(mean - theirs) > AP_TOLERANCE:
                return f"{protocol} {mean:.6f}, by the rule {theirs:.6f}"
        return None

    return judge


def image_sizes_agree(files: Sequence[Path], size_hw: tuple[int, int] | None) -> Judge:
    """All images can be decoded by Pillow, and have the size that the annotations say."""

    def judge(_: str) -> str | None:
        for file in files:
            try:
                with Image.open(file) as image:
                    width, height = ImageOps.exif_transpose(image).size
            except (OSError, SyntaxError, ValueError) as error:
                return f"{file.name}: Pillow cannot read it: {error}"
            if size_hw not in (None, (height, width)):
                return f"{file.name}: Pillow says {height} x {width} pixels"
        return None

    return judge


def _average_precision(truth: Path, found: Path) -> float | None:
    """Return the AP of persons; None where pycocotools cannot read a file."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            annotations = COCO(truth)
            for person in annotations.dataset["annotations"]:
                visible = person["keypoints"][2::3]
                person["num_keypoints"] = sum(flag > 0 for flag in visible)
            scoring = COCOeval(annotations, annotations.loadRes(str(found)), "keypoints")
            scoring.evaluate()
            scoring.accumulate()
            scoring.summarize()
        except _PYCOCOTOOLS_RAISES:
            return None
    return float(scoring.stats[0])
