"""Independent judges of runs that end well: pycocotools for AP, Pillow for images."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path

from PIL import Image, ImageOps

# Takes what a run printed; returns what is wrong, or None.
Judge = Callable[[str], "str | None"]

AP_TOLERANCE = 1e-6

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
        except (
            ArithmeticError,
            AssertionError,
            AttributeError,
            LookupError,
            TypeError,
            ValueError,
        ):
            return None
    return float(scoring.stats[0])
