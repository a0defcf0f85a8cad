"""`vipnas predict`: people in, poses out."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vipnas.cli.arguments import Commands, model_arguments, model_of, open_device
from vipnas.cli.numbers import count, finite_number, thread_count
from vipnas.cli.stopping import ended_by_signals
from vipnas.runtimes.table import RUNTIMES

if TYPE_CHECKING:
    from vipnas.deploy.detected_boxes import Detector
    from vipnas.deploy.predictor import PoseFinder
    from vipnas.deploy.source import Source


def add_predict_command(commands: Commands) -> None:
    """Add `predict`."""
    predict = commands.add_parser("predict", help="find poses in images, videos and cameras")
    model_arguments(predict)
    source_arguments(predict)
    predict.add_argument(
        "-o",
        "--output",
        action="append",
        required=True,
        metavar="OUT",
        help="video with poses (.mp4, .webm), numbers (.json, .csv), or a folder for pictures and"
        " keypoints.json; may be given several times",
    )
    people_arguments(predict)
    computing_arguments(predict)
    _add_output(predict)
    predict.set_defaults(run=_predict)


def source_arguments(command: argparse.ArgumentParser) -> None:
    """Add SOURCE and `--skip-bad-images`, of `opened`."""
    command.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="images, folders and globs; or one video, number of a camera, or address of a stream",
    )
    command.add_argument(
        "--skip-bad-images",
        action="store_true",
        help="skip images that cannot be read, with a warning (default: an error)",
    )


def people_arguments(command: argparse.ArgumentParser) -> None:
    """Add who is looked for, and how persons are followed."""
    people = command.add_argument_group("people")
    people.add_argument(
        "--detector",
        metavar="SPEC",
        help="who is in a frame: whole-image, a COCO results file (.json), PRESET:FILE.onnx or a"
        " description (.yaml); see docs/detectors.md (default: one person to an image; in a video"
        " one who is looked for in the whole frame, then followed)",
    )
    people.add_argument(
        "--detect-every",
        type=count,
        default=10,
        metavar="N",
        help="frames of a video from one run of the detector to the next (default: %(default)s)",
    )
    people.add_argument(
        "--smooth",
        action="store_true",
        help="smooth the joints of each track by a One-Euro filter, which makes them late",
    )


def computing_arguments(command: argparse.ArgumentParser) -> None:
    """Add how a model is run, of `opened`."""
    computing = command.add_argument_group("computing")
    computing.add_argument(
        "--runtime",
        choices=tuple(RUNTIMES),
        help="runtime of the model (default: PyTorch for weights, else that of the file)",
    )
    computing.add_argument(
        "--threads",
        type=thread_count,
        metavar="N",
        help="number of CPU threads of model and detector (default: all cores for weights, 1 for"
        " models of others and detectors)",
    )
    computing.add_argument(
        "--device", default="cpu", help="device of the model (default: %(default)s)"
    )
    computing.add_argument(
        "--flip-test",
        action=argparse.BooleanOptionalAction,
        help="take the mean over a crop and its mirror image: slower, and a little better"
        " (default: for images, not for videos)",
    )


def _add_output(predict: argparse.ArgumentParser) -> None:
    output = predict.add_argument_group("output")
    output.add_argument(
        "--json-form",
        choices=("coco", "posetrack18"),
        default="coco",
        help="form of a .json: COCO results, or PoseTrack18 with tracks (default: %(default)s)",
    )
    output.add_argument(
        "--video-codec",
        choices=("mp4v", "h264"),
        default="mp4v",
        help="codec of a .mp4: mp4v, or h264, which browsers play (pip install 'vipnas[h264]'; its"
        " wheels bundle libraries under the GPL) (default: %(default)s)",
    )
    output.add_argument(
        "--min-score",
        type=finite_number,
        default=0.2,
        metavar="X",
        help="lowest score of a joint that is drawn (default: %(default)s)",
    )
    output.add_argument(
        "--boxes", action="store_true", help="draw the boxes where poses were looked for, too"
    )
    output.add_argument(
        "--ids",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="write the ids of tracks beside persons (default: in videos)",
    )


def _predict(options: argparse.Namespace) -> None:
    with ended_by_signals("nothing was written"):
        _run(options)


@contextmanager
def opened(
    options: argparse.Namespace, output: Path | None
) -> Iterator[tuple[Source, PoseFinder, Detector | None]]:
    """Open source, model and detector of the options; images in the folder `output` are skipped."""
    import torch

    from vipnas.deploy.detectors import open_detector
    from vipnas.deploy.opening import open_poses
    from vipnas.deploy.predictor import STILL_KINDS
    from vipnas.deploy.sources import open_source

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    threads, device = options.threads or 1, str(open_device(options))
    bad = options.skip_bad_images
    with open_source(options.sources, output=output, skip_bad_images=bad) as source:
        is_still = source.kind in STILL_KINDS
        flip_test = is_still if options.flip_test is None else options.flip_test
        model = open_poses(
            str(options.model),
            lambda: model_of(options, device, flip_test),
            options.runtime,
            threads,
            device,
        )
        detector = None if options.detector is None else open_detector(options.detector, threads)
        yield source, model, detector


def _run(options: argparse.Namespace) -> None:
    from vipnas.deploy.predictor import Drawing, TrackSettings, write_poses
    from vipnas.deploy.writers import open_writers

    folder = next((Path(path) for path in options.output if not Path(path).suffix), None)
    with opened(options, folder) as (source, model, detector):
        writers = open_writers(
            options.output,
            model.skeleton,
            source.files,
            fps=source.fps,
            codec=options.video_codec,
            json_form=options.json_form,
        )
        settings = TrackSettings(options.detect_every, options.smooth)
        drawing = Drawing(options.min_score, options.boxes, options.ids)
        summary = write_poses(model, source, writers, detector, settings, drawing)
    for writer in writers:
        if writer.num_frames:
            print(f"predict: {writer.path}")
    print(f"predict: {summary}")
    if summary.is_interrupted and source.kind not in ("camera", "stream"):
        raise KeyboardInterrupt("the frames done so far are kept")
