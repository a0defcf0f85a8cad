"""End-to-end speed of `vipnas predict` against a plain loop, on one core.

    python -m tools.benchmarks.predict MODEL.onnx VIDEO [--repeats 5] [--report FILE]

MODEL takes normalised images and returns heatmaps, as `vipnas export` writes it. The plain loop
decodes by OpenCV, resizes the frame, runs ONNX Runtime and takes the argmax by NumPy. It draws
lines and circles by OpenCV, and writes an MPEG-4 of the same size. Both take turns with one thread,
and are timed by the seconds that their process computed. Milliseconds of the parts are of another
run, by the clock. Ends with 1 if `vipnas predict` reaches less than 0.9 of the frames a second.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch

from tools.benchmarks.command import exit_with, write_report
from tools.benchmarks.interleaved import Setting, interleaved
from vipnas.cli.main import main as vipnas
from vipnas.config.training import Compute
from vipnas.data.crops.crops import IMAGENET_MEAN_RGB, IMAGENET_STD_RGB
from vipnas.deploy.loading import load
from vipnas.deploy.predictor import write_poses
from vipnas.deploy.sources import open_source
from vipnas.deploy.stopwatch import Stopwatch
from vipnas.deploy.writers import open_writers
from vipnas.latency.cores import least_busy_cores, on_cores
from vipnas.runtimes.onnxruntime import inference_session
from vipnas.runtimes.runtime import RunSettings
from vipnas.threads import allowed_cores

LEAST_RATIO = 0.9


@dataclass(frozen=True, eq=False)
class PlainLoop:
    """The loop that one writes by hand for a model and a video, for one person."""

    model: Path
    video: Path
    output: Path
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
        writer = cv2.VideoWriter(str(self.output), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, size_wh)
        for frame in self.stopwatch.on_each("decoding", _frames(video)):
            with self.stopwatch.on("network"):
                crop = cv2.cvtColor(cv2.resize(frame, (width, height)), cv2.COLOR_BGR2RGB)
                image_3HW = ((crop.astype(np.float32) - mean) / std).transpose(2, 0, 1)
                (heatmaps_1Khw,) = session.run(None, {name: np.ascontiguousarray(image_3HW[None])})
                flat_KX = heatmaps_1Khw[0].reshape(header.skeleton.num_joints, -1)
                rows_K, columns_K = np.divmod(flat_KX.argmax(axis=1), heatmaps_1Khw.shape[3])
                share_2 = np.array(size_wh) / heatmaps_1Khw.shape[:1:-1]
                xy_K2 = (np.stack((columns_K, rows_K), axis=1) * share_2).astype(int).tolist()
            with self.stopwatch.on("drawing"):
                for first, second in header.skeleton.limbs:
                    cv2.line(frame, xy_K2[first], xy_K2[second], (0, 255, 0), 2, cv2.LINE_AA)
                for xy in xy_K2:
                    cv2.circle(frame, xy, 4, (0, 0, 255), -1, cv2.LINE_AA)
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
        return write_poses(opened, source, writers, min_score=0.0).ms_by_part


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

        plain = PlainLoop(options.model, options.video, Path(folder) / "plain.mp4")
        found = interleaved(setting, options.repeats, plain, predict)
        plain.stopwatch.seconds.clear()
        plain()
        ours = ms_by_part(options.model, options.video, Path(folder) / "parts.mp4")
        theirs = {part: 1000 * s / num_frames for part, s in plain.stopwatch.seconds.items()}
    rates = f"{num_frames / found.first_s:.1f} | {num_frames / found.second_s:.1f}"
    lines = [
        f"# `vipnas predict` against a plain loop, {date.today()}",
        "",
        f"{options.model.name}, {num_frames} frames of {options.video.name}; {setting}.",
        "",
        "| plain loop, frames a second | vipnas predict | ratio, median of turns |",
        "|---|---|---|",
        f"| {rates} | {found.ratio:.3f} |",
        "",
        "| milliseconds a frame | plain loop | vipnas predict |",
        "|---|---|---|",
        *(f"| {part} | {theirs.get(part, 0):.2f} | {ms:.2f} |" for part, ms in ours.items()),
    ]
    print("\n".join(lines))
    write_report(options.report, lines)
    return int(found.ratio < LEAST_RATIO)


if __name__ == "__main__":
    exit_with(main)
