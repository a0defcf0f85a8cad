"""Detectors in ONNX, by their descriptions.

N boxes, H W height and width.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, Literal

import cv2
import numpy as np

from vipnas.deploy.candidates import Candidates, FloatArray, SizeHW
from vipnas.deploy.described_model import DescribedModel, outputs_of
from vipnas.deploy.description import (
    UINT8,
    Described,
    ImageInput,
    parse_output,
)
from vipnas.deploy.detected_boxes import FIRST_FRAMES, DetectedBoxes, within
from vipnas.deploy.detector_forms import FORMS, DetectorForm
from vipnas.errors import UserError
from vipnas.files import Strict, parse, to_plain
from vipnas.runtimes.runtime import RunSettings
from vipnas.runtimes.table import DEFAULT_RUNTIME

SCORE_THRESHOLD = 0.3
# Scores of models that compute in few bits may leave 0..1 by this.
SCORE_TOLERANCE = 1e-3
# No detector finds a person of fewer pixels.
SMALLEST_PX = 2
# What is judged -> what is expected of it, and a hint.
SUSPICIONS = {
    "boxes": (
        "some of a person's size within the image",
        "are the box's columns, its unit, strides and fit as the model has them?",
    ),
    "scores": ("some above 0", "are colour, mean, std and person_class as the model has them?"),
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DetectorFile(Strict):
    """The description of a detector in YAML.

    Attributes:
        input: How pixels enter the model.
        output: `form`, one of `FORMS`, and its options; see `parse_output`.
        fit: How the image gets the model's size: its ratio kept, in the middle or at the top left
            of an empty picture, or stretched.
        fill: The value, 0..255, of the empty picture.
        person_class: Which class are persons.
        score_threshold: Boxes that score less are left out.
        nms_iou: Of two boxes that overlap by more, the better one is kept.
    """

    input: ImageInput
    output: dict[str, Any]
    fit: Literal["letterbox", "letterbox_top_left", "resize"] = "letterbox"
    fill: int = 0
    person_class: int = 0
    score_threshold: float = SCORE_THRESHOLD
    nms_iou: float = 0.6

    def __post_init__(self) -> None:
        if not 0 <= self.fill <= 255:
            raise UserError("fill", "0 to 255", str(self.fill))
        for name in ("score_threshold", "nms_iou"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(name, "0 to 1", str(getattr(self, name)))


class OnnxDetector:
    """A detector in ONNX, by its description.

    Attributes:
        path: The model.

    Raises:
        UserError: Description and model do not fit; a grey image is tried.
    """

    def __init__(
        self,
        described: Described,
        settings: RunSettings,
        runtime: str = DEFAULT_RUNTIME,
        score_threshold: float | None = None,
    ) -> None:
        place, self.path = described.place, described.model
        self._file = parse(DetectorFile, described.values, place)
        self._form, names = parse_output(FORMS, self._file.output, f"{place}: output")
        self._model = DescribedModel(described.model, self._file.input, names, runtime, settings)
        self._place = f"{described.model} ({place})"
        self._threshold = self._file.score_threshold if score_threshold is None else score_threshold
        self._suspicions = _Suspicions(self._place, self._form)
        self._candidates(np.full((*self._model.input_hw, 3), 128, np.uint8))

    def __call__(self, image: UINT8, name: str = "", index: int = 0) -> DetectedBoxes:
        fitted, view = fit_image(image, self._model.input_hw, self._file.fit, self._file.fill)
        found = self._candidates(fitted)
        kept = suppress(found, self._threshold, self._file.nms_iou if self._form.is_dense else 1.0)
        on_image = Candidates(view.to_image(kept.boxes_xyxy), kept.scores)
        persons = within(on_image, (image.shape[0], image.shape[1]))
        sizes_N2 = persons.boxes_xyxy[:, 2:] - persons.boxes_xyxy[:, :2]
        num_plausible = int((sizes_N2 >= SMALLEST_PX).all(axis=1).sum())
        self._suspicions.look(found.scores, len(kept.scores), num_plausible)
        return persons

    def to_plain(self) -> dict[str, Any]:
        """Return the description with all defaults, for pages that run the model by themselves."""
        form = next(name for name, form in FORMS.items() if form is type(self._form))
        model = self._model
        return {
            **to_plain(self._file),
            "input": {**to_plain(self._file.input), "hw": model.input_hw, "dtype": model.dtype},
            "output": {"form": form, "options": to_plain(self._form), "names": model.names},
            "is_dense": self._form.is_dense,
        }

    def _candidates(self, fitted: UINT8) -> Candidates:
        """Return all candidates in pixels of the input."""
        outputs = self._model.run(fitted[None])
        with outputs_of(self._place):
            found = self._form.persons(outputs, self._model.input_hw, self._file.person_class)
        if not (np.isfinite(found.boxes_xyxy).all() and np.isfinite(found.scores).all()):
            raise UserError(f"{self._place}: outputs", "finite numbers", "others")
        low, high = found.scores.min(initial=0), found.scores.max(initial=0)
        if low < -SCORE_TOLERANCE or high > 1 + SCORE_TOLERANCE:
            raise UserError(
                f"{self._place}: scores",
                "0 to 1",
                f"{low:.3g} to {high:.3g}",
                "is the activation sigmoid or softmax? are the columns in order?",
            )
        return found


@dataclass(frozen=True)
class View:
    """Where an image is in the input of a model: input = image x scale + offset, for x and y."""

    scale_xy: tuple[float, float]
    offset_xy: tuple[int, int]

    def to_image(self, boxes_N4: FloatArray) -> FloatArray:
        """Return boxes of the input in pixels of the image."""
        boxes: FloatArray = (boxes_N4 - np.array(self.offset_xy * 2)) / np.array(self.scale_xy * 2)
        return boxes


def fit_image(image: UINT8, input_hw: SizeHW, fit: str, fill: int) -> tuple[UINT8, View]:
    """Return the image in the size of the input, and its place there (see `DetectorFile`)."""
    (height, width), (input_h, input_w) = image.shape[:2], input_hw
    if fit == "resize":
        inner_h, inner_w = input_hw
    else:
        scale = min(input_h / height, input_w / width)
        inner_h, inner_w = (max(1, round(side * scale)) for side in (height, width))
    left, top = (
        ((input_w - inner_w) // 2, (input_h - inner_h) // 2) if fit == "letterbox" else (0, 0)
    )
    fitted = np.full((input_h, input_w, 3), fill, np.uint8)
    inner = fitted[top : top + inner_h, left : left + inner_w]
    inner[:] = cv2.resize(image, (inner_w, inner_h), interpolation=cv2.INTER_LINEAR)
    return fitted, View((inner_w / width, inner_h / height), (left, top))


def suppress(found: Candidates, score_threshold: float, nms_iou: float) -> Candidates:
    """Keep candidates that score enough and do not overlap a better one; the best first."""
    keep = found.scores >= score_threshold
    boxes_N4, scores_N = found.boxes_xyxy[keep], found.scores[keep]
    if nms_iou >= 1:
        order = np.argsort(-scores_N, kind="stable")
    else:
        boxes_xywh = np.concatenate((boxes_N4[:, :2], boxes_N4[:, 2:] - boxes_N4[:, :2]), axis=1)
        # OpenCV would leave out scores equal to the threshold; 0 is below those that are kept.
        order = np.array(cv2.dnn.NMSBoxes(boxes_xywh.tolist(), scores_N.tolist(), 0, nms_iou), int)
    return Candidates(boxes_N4[order], scores_N[order])


@dataclass
class _Suspicions:
    """Check on the first frames whether a description fits its model.

    Boxes that are never within the image, or never larger than a point; scores of a dense form that
    are never above 0. The first such frame warns, the last of `FIRST_FRAMES` raises UserError.
    """

    place: str
    form: DetectorForm
    _frames_without: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SUSPICIONS, 0))

    def look(self, scores_N: FloatArray, num_boxes: int, num_plausible: int) -> None:
        """Judge one more frame by all its scores, and by how many boxes are kept and plausible."""
        if self.form.is_dense:
            self._count("scores", bool(scores_N.max(initial=0) > 0))
        if num_boxes > 0:
            self._count("boxes", num_plausible > 0)

    def _count(self, what: str, is_good: bool) -> None:
        if is_good:
            self._frames_without.pop(what, None)
        if what not in self._frames_without:
            return
        self._frames_without[what] += 1
        place, (expected, hint) = f"{self.place}: {what}", SUSPICIONS[what]
        if self._frames_without[what] == 1:
            log.warning("%s", UserError(place, expected, "none", hint))
        if self._frames_without[what] == FIRST_FRAMES:
            raise UserError(place, expected, f"none in {FIRST_FRAMES} images", hint)
