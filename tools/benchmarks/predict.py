"""End-to-end speed of `vipnas predict` against plain loops, on one core.

    python -m tools.benchmarks.predict MODEL.onnx VIDEO [--repeats 5] [--report FILE]

MODEL takes normalised images and returns heatmaps, as `vipnas export` writes it. A plain loop
decodes by OpenCV, resizes the frame, runs ONNX Runtime, takes the argmax by NumPy, draws by OpenCV,
and writes an MPEG-4 of the same size. There are two: the bare one draws thin lines and dots; the
other draws what `vipnas predict` draws, limbs and joints with an outline and an id, by one call of
OpenCV for each. More detail also takes the encoder longer.

All run with one thread, by turns, and are timed by the seconds that their process computed.
Opening the model counts, so that VIDEO should have some hundred frames. Milliseconds of the parts
are of another run, by the clock. Ends with 1 if `vipnas predict` reaches less than 0.9 of the
frames a second of the loop that draws the same.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch

from tools.benchmarks.command import exit_with, write_report
from tools.benchmarks.interleaved import Compared, Setting, interleaved
from vipnas.arch.skeleton import Skeleton
from vipnas.cli.main import main as vipnas
from vipnas.config.training import Compute
from vipnas.data.crops.crops import IMAGENET_MEAN_RGB, IMAGENET_STD_RGB
from vipnas.deploy.loading import load
from vipnas.deploy.predictor import Drawing, write_poses
from vipnas.deploy.sources import open_source
from vipnas.deploy.stopwatch import Stopwatch
from vipnas.deploy.writers import open_writers
from vipnas.latency.cores import least_busy_cores, on_cores
from vipnas.runtimes.onnxruntime import inference_session
from vipnas.runtimes.runtime import RunSettings
from vipnas.threads import allowed_cores
from vipnas.viz.pose_style import ID_COLOURS, OUTLINE, UNSURE_SCORE, ordered, pose_style

LEAST_RATIO = 0.9
FONT = cv2.FONT_HERSHEY_SIMPLEX

Points = list[list[int]]
# Draws joints and their scores into a frame of OpenCV.
Draw = Callable[[cv2.typing.MatLike, Points, list[float], Skeleton], None]


def draw_bare(
    frame: cv2.typing.MatLike, xy_K2: Points, scores_K: list[float], skeleton: Skeleton
) -> None:
    for first, second in skeleton.limbs:
        cv2.line(frame, xy_K2[first], xy_K2[second], (0, 255, 0), 2, cv2.LINE_AA)
    for xy in xy_K2:
        cv2.circle(frame, xy, 4, (0, 0, 255), -1, cv2.LINE_AA)


def draw_alike(
    frame: cv2.typing.MatLike, xy_K2: Points, scores_K: list[float], skeleton: Skeleton
) -> None:
    """Draw what `vipnas predict` draws for one person, in whole pixels."""
    style = pose_style(skeleton, bgr=True)
    width = max(1, round(0.012 * max(max(axis) - min(axis) for axis in zip(*xy_K2, strict=True))))
    limbs = [(xy_K2[first], xy_K2[second]) for first, second in skeleton.limbs]
    for begin, end in limbs:
        cv2.line(frame, begin, end, OUTLINE, width + 2, cv2.LINE_AA)
    for (begin, end), limb in zip(limbs, style.limbs, strict=True):
        cv2.line(frame, begin, end, limb.colour, width, cv2.LINE_AA)
    for xy, score, colour in zip(xy_K2, scores_K, style.colours, strict=True):
        cv2.circle(frame, xy, width + 1, OUTLINE, -1, cv2.LINE_AA)
        cv2.circle(frame, xy, width, colour, -1, cv2.LINE_AA)
        if score <= UNSURE_SCORE:
            cv2.circle(frame, xy, width // 2, OUTLINE, -1, cv2.LINE_AA)
    corner = [min(axis) for axis in zip(*xy_K2, strict=True)]
    for shade, thickness in ((OUTLINE, 3), (ordered(ID_COLOURS[0], bgr=True), 1)):
        cv2.putText(frame, "0", corner, FONT, 1.0, shade, thickness, cv2.LINE_AA)


@dataclass(frozen=True, eq=False)
class PlainLoop:
    """The loop that one writes by hand for a model and a video, for one person."""

    model: Path
    video: Path
    output: Path
    draw: Draw
    stopwatch: Stopwatch = field(default_factory=Stopwatch)

    def __call__(self) -> None:
        header = load(self.model).header
        height, width = header.input.hw
        session = inference_session(str(self.model), RunSettings(1))
        (name,) = [given.name for given in session.get_inputs()]
        mean, std = (
            np.asarray(values, np.float32) * 255 for values in (IMAGENET_MEAN_RGB, IMAGENET_STD_RGB)
        )
        video = cv2.VideoCapture(str(self.video))
        size_wh = (
            int(video.get(cv2.CAP_PROP_FRAME_WIDTH)),
            int(video.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )
        fps = video.get(cv2.CAP_PROP_FPS)
        writer = cv2.VideoWriter(str(self.output), cv2.VideoWriter.fourcc(*"mp4v"), fps, size_wh)
        for frame in self.stopwatch.on_each("decoding", _frames(video)):
            with self.stopwatch.on("network"):
                crop = cv2.cvtColor(cv2.resize(frame, (width, height)), cv2.COLOR_BGR2RGB)
                image_3HW = ((crop.astype(np.float32) - mean) / std).transpose(2, 0, 1)
                (heatmaps_1Khw,) = session.run(None, {name: np.ascontiguousarray(image_3HW[None])})
                flat_KX = heatmaps_1Khw[0].reshape(header.skeleton.num_joints, -1)
                peaks_K, scores_K = flat_KX.argmax(axis=1), flat_KX.max(axis=1).tolist()
                rows_K, columns_K = np.divmod(peaks_K, heatmaps_1Khw.shape[3])
                share_2 = np.array(size_wh) / heatmaps_1Khw.shape[:1:-1]
                xy_K2 = (np.stack((columns_K, rows_K), axis=1) * share_2).astype(int).tolist()
            with self.stopwatch.on("drawing"):
                self.draw(frame, xy_K2, scores_K, header.skeleton)
            with self.stopwatch.on("writing"):
                writer.write(frame)
        writer.release()


def _frames(video: cv2.VideoCapture) -> Iterator[cv2.typing.MatLike]:
    while (frame := video.read()[1]) is not None:
        yield frame


def ms_by_part(model: Path, video: Path, output: Path) -> dict[str, float]:
    """Return the milliseconds a frame that `vipnas predict` reports."""
    opened = load(model, flip_test=False)
    with open_source(video) as source:
        writers = open_writers([str(output)], opened.skeleton, source.files, fps=source.fps)
        return write_poses(opened, source, writers, drawing=Drawing(0.0)).ms_by_part


def _ms(loop: PlainLoop, part: str, num_frames: int) -> str:
    return f"{1000 * loop.stopwatch.seconds[part] / num_frames:.2f}"


def _tables(
    found: dict[str, Compared],
    loops: dict[str, PlainLoop],
    ours: dict[str, float],
    num_frames: int,
) -> Iterator[str]:
    yield "| plain loop | its frames a second | vipnas predict | ratio, median of turns |"
    yield "|---|---|---|---|"
    for name, one in found.items():
        rates = f"{num_frames / one.first_s:.1f} | {num_frames / one.second_s:.1f}"
        yield f"| {name} | {rates} | {one.ratio:.3f} |"
    yield ""
    yield f"| milliseconds a frame | {' | '.join(loops)} | vipnas predict |"
    yield "|---|" + "---|" * (len(loops) + 1)
    for part, ms in ours.items():
        theirs = [_ms(loop, part, num_frames) for loop in loops.values()]
        yield f"| {part} | {' | '.join(theirs)} | {ms:.2f} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("video", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--report", type=Path, help="write the result there, as markdown")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    setting = Setting(torch.device("cpu"), Compute(), 1, options.repeats)
    video = cv2.VideoCapture(str(options.video))
    num_frames = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    with TemporaryDirectory() as folder, on_cores(least_busy_cores(allowed_cores(), 1)):
        arguments = ["predict", str(options.model), str(options.video), "--threads", "1"]
        arguments += ["--min-score", "0", "-o", str(Path(folder) / "vipnas.mp4")]

        def predict() -> None:
            with contextlib.redirect_stdout(io.StringIO()):
                assert vipnas(arguments) == 0

        names = {"bare": draw_bare, "drawn alike": draw_alike}
        loops = {
            name: PlainLoop(
                options.model, options.video, Path(folder) / f"{draw.__name__}.mp4", draw
            )
            for name, draw in names.items()
        }
        found = {
            name: interleaved(setting, options.repeats, loop, predict)
            for name, loop in loops.items()
        }
        for loop in loops.values():
            loop.stopwatch.seconds.clear()
            loop()
        ours = ms_by_part(options.model, options.video, Path(folder) / "parts.mp4")
    lines = [
        f"# `vipnas predict` against plain loops, {date.today()}",
        "",
        f"{options.model.name}, {num_frames} frames of {options.video.name}; {setting}.",
        "",
        *_tables(found, loops, ours, num_frames),
    ]
    print("\n".join(lines))
    write_report(options.report, lines)
    return int(found["drawn alike"].ratio < LEAST_RATIO)


if __name__ == "__main__":
    exit_with(main)
