"""Pose models that vipnas did not export: ONNX files and descriptions.

N boxes, K joints, H W height and width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vipnas.config.data import BoxFit
from vipnas.data.crops.geometry import PUBLISHED_FIT, FloatArray, from_upright
from vipnas.data.crops.pictures import box_crops
from vipnas.data.formats.skeletons import Skeleton, find_skeleton, read_skeleton
from vipnas.deploy.clip_runner import ImageRunner, Runner
from vipnas.deploy.described_model import DescribedModel, outputs_of
from vipnas.deploy.description import (
    UINT8,
    Described,
    ImageInput,
    find_description,
    parse_output,
)
from vipnas.deploy.detected_boxes import Detector
from vipnas.deploy.pose_forms import FORMS, Joints
from vipnas.deploy.predictor import DETECT_EVERY, TrackSettings, track
from vipnas.deploy.result import PoseResult, checked_boxes, checked_image
from vipnas.errors import UserError
from vipnas.files import Strict, parse
from vipnas.runtimes.runtime import RunSettings
from vipnas.runtimes.table import DEFAULT_RUNTIME
from vipnas.tables import check_known

# Crops that run at once, where the model takes any number.
BATCH_SIZE = 64


@dataclass(frozen=True)
class PoseFile(Strict):
    """The description of a pose model in YAML.

    Attributes:
        input: How pixels enter the model.
        output: `form`, one of `FORMS`, and its options; see `parse_output`.
        skeleton: The joints to return: a shipped skeleton, or a file beside the description.
        joints: The joints of the model, in its order, by the skeleton's names. Joints that the
            skeleton lacks are ignored. None if they equal those of the skeleton.
        box_padding: The crop is the box, enlarged by this factor.
        aspect: How a box gets the ratio of the input: its shorter side is extended, or the crop is
            stretched.
    """

    input: ImageInput
    output: dict[str, Any]
    skeleton: str
    joints: tuple[str, ...] | None = None
    box_padding: float = PUBLISHED_FIT.padding
    aspect: Literal["extend", "stretch"] = "extend"

    def __post_init__(self) -> None:
        if not self.box_padding > 0:
            raise UserError("box_padding", "a number above 0", str(self.box_padding))


class ForeignPoseModel:
    """A pose model in ONNX, by its description.

    Attributes:
        path: The ONNX file.
        skeleton: The joints that it finds, in their order.
        input_hw: Height and width of its input.
        box_padding: The crop is the box, enlarged by this factor.

    Raises:
        UserError: Description and model do not fit; a grey image is tried.
    """

    def __init__(
        self,
        described: Described,
        settings: RunSettings | None = None,
        runtime: str = DEFAULT_RUNTIME,
        box_padding: float | None = None,
    ) -> None:
        place = described.place
        file = parse(PoseFile, described.values, place)
        self._form, names = parse_output(FORMS, file.output, f"{place}: output")
        self._model = DescribedModel(described.model, file.input, names, runtime, settings)
        self._place = f"{described.model} ({place})"
        self._aspect = file.aspect
        self.path: Path = described.model
        self.box_padding = file.box_padding if box_padding is None else box_padding
        beside = described.folder / file.skeleton
        if not beside.is_file():
            beside = find_skeleton(file.skeleton, f"{place}: skeleton")
        self.skeleton: Skeleton = read_skeleton(beside)
        joints = file.joints or self.skeleton.joints
        for name in self.skeleton.joints:
            check_known(name, joints, f"{place}: joints: skeleton {self.skeleton.name}")
        self._num_joints = len(joints)
        self._order = [joints.index(name) for name in self.skeleton.joints]
        self._joints(np.full((1, *self.input_hw, 3), 128, np.uint8))

    @property
    def input_hw(self) -> tuple[int, int]:
        return self._model.input_hw

    def predict(
        self, image: UINT8, boxes_xyxy: ArrayLike | None = None, bgr: bool = False
    ) -> PoseResult:
        """Find one pose in each box of an image; see `PoseModel.predict`."""
        image = checked_image(image, bgr)
        boxes_N4 = checked_boxes(boxes_xyxy, image)
        return PoseResult(*self.find(image, boxes_N4), boxes_N4, image, self.skeleton)

    def track(
        self,
        source: str | Path,
        detector: Detector | None = None,
        detect_every: int = DETECT_EVERY,
        smooth: bool = False,
    ) -> Iterator[PoseResult]:
        """Find the poses in each frame of a source; see `PoseModel.track`."""
        return track(self, source, detector, TrackSettings(detect_every, smooth))

    def runner(self) -> Runner:
        """Return what finds the poses of a video's frames: each frame by itself."""
        return ImageRunner(self.find)

    def find(self, image: UINT8, boxes_N4: FloatArray) -> tuple[FloatArray, NDArray[np.float32]]:
        """Find one pose in each box; see `PoseModel.find`."""
        span_hw, fit = self._form.span_hw(self.input_hw), BoxFit(self.box_padding, self._aspect)
        crops_NHW3, input_from_image_N23 = box_crops(image, boxes_N4, self.input_hw, span_hw, fit)
        step = self._model.batch or BATCH_SIZE
        parts = [
            self._joints(crops_NHW3[start : start + step])
            for start in range(0, len(boxes_N4), step)
        ]
        if not parts:
            num_joints = self.skeleton.num_joints
            return np.empty((0, num_joints, 2)), np.empty((0, num_joints), np.float32)
        xy_NK2 = np.concatenate([part.xy for part in parts])
        scores_NK = np.concatenate([part.scores for part in parts])
        return from_upright(input_from_image_N23, xy_NK2), scores_NK

    def _joints(self, crops_NHW3: UINT8) -> Joints:
        """Return the joints of crops, in the order of the skeleton."""
        outputs = self._model.run(crops_NHW3)
        with outputs_of(self._place):
            found = self._form.joints(outputs, self.input_hw, len(crops_NHW3), self._num_joints)
        if not (np.isfinite(found.xy).all() and np.isfinite(found.scores).all()):
            raise UserError(f"{self._place}: outputs", "finite numbers", "others")
        return Joints(found.xy[:, self._order], found.scores[:, self._order])


def open_pose_model(
    spec: str,
    threads: int = 1,
    *,
    runtime: str = DEFAULT_RUNTIME,
    device: str = "cpu",
    box_padding: float | None = None,
) -> ForeignPoseModel:
    """Open a pose model that vipnas did not export.

    Args:
        spec: `PRESET:FILE.onnx`, a description `FILE.yaml`, or `FILE.onnx` with a description of
            the same name beside it.
        threads: CPU threads.
        runtime: A row of the table of runtimes.
        device: One of the runtime's devices.
        box_padding: The crop is the box, enlarged by this factor; None for what the description
            says.

    Raises:
        UserError: A description or a model cannot be used.
    """
    described = find_description("poses", spec)
    return ForeignPoseModel(described, RunSettings(threads, device=device), runtime, box_padding)
