"""`vipnas label`: images and videos in, a COCO annotation file of pseudo-labels out."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from vipnas.cli.arguments import Commands, model_arguments
from vipnas.cli.numbers import count, finite_number
from vipnas.cli.predict import computing_arguments, opened, people_arguments, source_arguments
from vipnas.cli.stopping import ended_by_signals
from vipnas.errors import UserError

if TYPE_CHECKING:
    from vipnas.deploy.labels import Thresholds
    from vipnas.deploy.predictor import PoseFinder


def add_label_command(commands: Commands) -> None:
    """Add `label`."""
    label = commands.add_parser("label", help="write what a model finds as labels to train on")
    model_arguments(label)
    source_arguments(label)
    label.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="COCO annotation file to write (.json)",
    )
    people_arguments(label)
    computing_arguments(label)
    labels = label.add_argument_group("labels")
    labels.add_argument(
        "--min-score",
        type=finite_number,
        metavar="X",
        help="lowest score of a joint that is labelled (default: 0.3; 0 with --calibrate-on)",
    )
    labels.add_argument(
        "--calibrate-on",
        type=Path,
        metavar="FILE",
        help="COCO annotation file of labelled persons: each joint gets the lowest threshold that"
        " has the --precision there",
    )
    labels.add_argument(
        "--calibrate-images",
        type=Path,
        metavar="DIR",
        help="folder of the images of --calibrate-on (default: that of the file)",
    )
    labels.add_argument(
        "--precision",
        type=float,
        metavar="P",
        help="share of right joints among those that are labelled, above 0, up to 1; needs"
        " --calibrate-on (default: 0.9)",
    )
    labels.add_argument(
        "--every",
        type=count,
        default=1,
        metavar="N",
        help="of a video, label every N-th frame (default: %(default)s)",
    )
    label.set_defaults(run=_label)


def _label(options: argparse.Namespace) -> None:
    if options.output.suffix.lower() != ".json":
        raise UserError("--output", "a .json file", str(options.output))
    for name in ("calibrate_images", "precision"):
        if getattr(options, name) is not None and options.calibrate_on is None:
            place = f"--{name.replace('_', '-')}"
            raise UserError(place, "--calibrate-on with this option", "none")
    with ended_by_signals("nothing was written"):
        _run(options)


def _run(options: argparse.Namespace) -> None:
    from vipnas.deploy.labels import LabelWriter
    from vipnas.deploy.predictor import STILL_KINDS, TrackSettings, write_poses
    from vipnas.deploy.writer import unwritable

    path: Path = options.output
    with opened(options, None) as (source, model, detector):
        thresholds = _thresholds(options, model)
        is_still = source.kind in STILL_KINDS
        if is_still and options.every > 1:
            raise UserError(
                "--every", "a video with this option", f"a source of kind {source.kind}"
            )
        frames = None if is_still else path.with_name(f"{path.stem}_frames")
        name = Path(options.model).name.rpartition(":")[2]
        is_boxed = detector is not None
        try:
            writer = LabelWriter(
                path, model.skeleton, thresholds, name, frames, is_boxed, options.every
            )
        except OSError as error:
            raise unwritable(path, error) from error
        settings = TrackSettings(options.detect_every, options.smooth)
        summary = write_poses(model, source, [writer], detector, settings)
    if not writer.num_persons:
        path.unlink(missing_ok=True)
        if summary.is_interrupted:
            raise KeyboardInterrupt("nothing was written")
        found = f"none in {summary.num_frames} frames"
        hint = "lower --min-score or --precision, or try --detector"
        raise UserError(source.place, "a person with four joints to label", found, hint)
    root = frames or _images_root(source.files)
    print(f"label: {writer.num_persons} persons in {writer.num_images} images; {path}")
    print(f"label: images: {root}")
    if summary.is_interrupted:
        raise KeyboardInterrupt("the frames done so far are kept")


def _thresholds(options: argparse.Namespace, model: PoseFinder) -> Thresholds:
    from vipnas.data.formats.coco import read_coco
    from vipnas.deploy.labels import calibrated_thresholds, check_precision, equal_thresholds

    if options.calibrate_on is None:
        return equal_thresholds(
            model.skeleton, 0.3 if options.min_score is None else options.min_score
        )
    precision = 0.9 if options.precision is None else options.precision
    check_precision(precision)
    images = options.calibrate_images or options.calibrate_on.parent
    data = read_coco(options.calibrate_on, images, model.skeleton)
    thresholds = calibrated_thresholds(model, data, precision, options.min_score or 0.0)
    print(f"label: {thresholds.origin}: {thresholds.describe(model.skeleton)}", flush=True)
    return thresholds


def _images_root(files: tuple[Path, ...]) -> Path:
    """Return the folder that the file names start from."""
    return Path(os.path.commonpath([file.absolute().parent for file in files]))
