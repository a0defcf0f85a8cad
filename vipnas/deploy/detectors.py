"""Open person detectors of all kinds by one function.

detect = open_detector("nanodet:nanodet.onnx")
boxes = detect(image)
"""

from __future__ import annotations

from pathlib import Path

from vipnas.deploy.description import find_description, preset_names
from vipnas.deploy.detected_boxes import BoxesOfFile, whole_image
from vipnas.deploy.detected_boxes import DetectedBoxes as DetectedBoxes
from vipnas.deploy.detected_boxes import Detector as Detector
from vipnas.deploy.onnx_detector import SCORE_THRESHOLD, OnnxDetector
from vipnas.errors import UserError, shown
from vipnas.runtimes.runtime import RunSettings
from vipnas.runtimes.table import DEFAULT_RUNTIME

WHOLE_IMAGE = "whole-image"


def open_detector(
    spec: str,
    threads: int = 1,
    *,
    runtime: str = DEFAULT_RUNTIME,
    device: str = "cpu",
    score_threshold: float | None = None,
) -> Detector:
    """Open a detector.

    Args:
        spec: `whole-image`; a COCO results file (`.json`); or a model in ONNX, as
            `PRESET:FILE.onnx`, as its description `FILE.yaml`, or as `FILE.onnx` with a description
            of the same name beside it.
        threads: CPU threads.
        runtime: A row of the table of runtimes.
        device: One of the runtime's devices.
        score_threshold: Boxes that score less are left out; None for what the description says, and
            0.3 where nothing does.

    Raises:
        UserError: A file, a description or a model cannot be used.
    """
    if spec == WHOLE_IMAGE:
        return whole_image
    if Path(spec).suffix == ".json":
        threshold = SCORE_THRESHOLD if score_threshold is None else score_threshold
        return BoxesOfFile(Path(spec), threshold)
    if Path(spec).suffix not in (".onnx", ".yaml"):
        raise UserError(
            "detector",
            f"{WHOLE_IMAGE}, FILE.json, FILE.yaml, or PRESET:FILE.onnx",
            shown(spec),
            f"presets: {', '.join(preset_names('detectors'))}",
        )
    described = find_description("detectors", spec)
    return OnnxDetector(
        described, RunSettings(threads, device=device), runtime, score_threshold=score_threshold
    )
