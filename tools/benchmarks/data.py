"""How fast and how exact the data pipeline and the evaluation are, against bare limits in one run.

    VIPNAS_DATA=/where/the/data/is python -m tools.benchmarks.data [--report FILE.md]

The compared loops take turns, so that a busy machine slows both. Ratios are medians over the
turns; rates without a ratio are those of the calmest turn. The crops are made on one core.
Expected time: three minutes. The report belongs into experiments/reports/data_DATE.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")

import cv2
import numpy as np
import torch

from tools.benchmarks.command import exit_with, write_report
from tools.benchmarks.data_report import Report, by_turns
from tools.benchmarks.random_results import random_coco, random_posetrack, truth_as_results
from vipnas.config.data import Augmentation
from vipnas.data.codecs.heatmap import CODECS, HeatmapCodec, make_codec
from vipnas.data.crops.augmentation import augmented_matrix, crop_draws
from vipnas.data.crops.cache import open_crop_cache
from vipnas.data.crops.loader import TrainingCrops
from vipnas.data.formats.coco import Person, read_coco
from vipnas.data.formats.posetrack import read_posetrack
from vipnas.data.formats.skeletons import COCO_17, Skeleton, read_skeleton
from vipnas.evaluation.coco_ap import METRICS_IN_COCO_ORDER, coco_metrics
from vipnas.evaluation.pck import PCK_THRESHOLD, pck, torso_sizes
from vipnas.evaluation.posetrack_ap import posetrack_ap
from vipnas.memory import keep_freed_memory

INPUT_HW, HEATMAP_HW = (256, 192), (64, 48)
COCO_FILES = {
    "coco_sample": ("coco_sample/person_keypoints_train2017.json", "coco_sample/train2017"),
    "lspet": ("lspet/train.json", "lspet/images"),
}


class CropLoops:
    """The same batches of crops three ways; a turn is one batch."""

    def __init__(self, persons: Sequence[Person], folder: Path, batch: int) -> None:
        self.persons = persons
        self.batch = batch
        self.num_batches = len(persons) // batch
        augmentation = Augmentation()
        cache = open_crop_cache(folder, persons, COCO_17, INPUT_HW, augmentation)
        self.plain_crops = TrainingCrops(persons, COCO_17, INPUT_HW, augmentation, 0)
        self.cached_crops = TrainingCrops(persons, COCO_17, INPUT_HW, augmentation, 0, cache=cache)
        self.cached_crops.__getitems__([(0, index) for index in range(len(persons))])

    def keys(self, turn: int) -> list[tuple[int, int]]:
        epoch, place = divmod(turn, self.num_batches)
        return [(epoch, place * self.batch + row) for row in range(self.batch)]

    def find_matrices(self, num_turns: int) -> None:
        """The bare loop is given its matrices."""
        keys = {key for turn in range(num_turns) for key in self.keys(turn)}
        self.matrices = {key: self.matrix(*key) for key in keys}

    def matrix(self, epoch: int, index: int) -> Any:
        draws = crop_draws(0, epoch, index)
        person = self.persons[index]
        return augmented_matrix(person, COCO_17, INPUT_HW, Augmentation(), draws)[0]

    def bare(self, turn: int) -> None:
        for key in self.keys(turn):
            image: Any = cv2.imread(str(self.persons[key[1]].image_path))
            cv2.warpAffine(image, self.matrices[key], INPUT_HW[::-1])

    def plain(self, turn: int) -> None:
        self.plain_crops.__getitems__(self.keys(turn))

    def cached(self, turn: int) -> None:
        self.cached_crops.__getitems__(self.keys(turn))


def crops(report: Report, root: Path, num_persons: int, num_epochs: int, batch: int = 32) -> None:
    report.table("Training crops a second, augmentation on, one core")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    for name, files in COCO_FILES.items():
        persons = read_coco(root / files[0], root / files[1], COCO_17).persons
        persons = persons[: min(num_persons, len(persons)) // batch * batch]
        with tempfile.TemporaryDirectory() as folder:
            loops = CropLoops(persons, Path(folder), batch)
            num_turns = num_epochs * loops.num_batches
            loops.find_matrices(num_turns)
            ways = {"bare": loops.bare, "plain": loops.plain, "cached": loops.cached}
            seconds = {way: np.array(taken) for way, taken in by_turns(ways, num_turns).items()}
        rates = {way: batch / np.median(taken) for way, taken in seconds.items()}
        report.say(
            f"| {name}: `cv2.imread` + one `warpAffine` a person | {rates['bare']:.0f} /s | | |"
        )
        for way, share, what in (
            ("plain", 0.9, "without a cache"),
            ("cached", 2.5, "with the cache"),
        ):
            ratio = float(np.median(seconds["bare"] / seconds[way]))
            found = f"{rates[way]:.0f} /s, {ratio:.2f} of it"
            report.row(f"{name}: {what}", found, f">= {share:g}", ratio >= share)


def random_joints(num_persons: int, codec: Any, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    last_xy = torch.tensor([codec.heatmap_hw[1] - 1, codec.heatmap_hw[0] - 1])
    xy = (
        torch.rand(num_persons, 17, 2, generator=generator)
        * last_xy
        * torch.tensor(codec.stride_xy)
    )
    return torch.cat((xy, torch.ones(num_persons, 17, 1)), dim=-1)


def _decode(codec: HeatmapCodec, heatmaps_BKHW: torch.Tensor, _: int) -> object:
    return codec.decode(heatmaps_BKHW)


def codecs(report: Report, num_turns: int, num_persons: int = 128) -> None:
    threads = len(os.sched_getaffinity(0))  # more than that would wait for each other
    report.table(f"Decoding persons x 17 joints of 64 x 48, {threads} cores")
    torch.set_num_threads(threads)
    names = list(CODECS)
    made = {name: make_codec(name, INPUT_HW, HEATMAP_HW) for name in names}
    heatmaps = made["quarter"].encode(random_joints(num_persons, made["quarter"]))[0]
    generator = torch.Generator().manual_seed(1)
    heatmaps += 0.01 * torch.randn(heatmaps.shape, generator=generator)
    for codec in made.values():
        codec.decode(heatmaps)
    loops: dict[str, Callable[[int], object]] = {
        name: partial(_decode, codec, heatmaps) for name, codec in made.items()
    }
    loops["bytes"] = lambda _: heatmaps.view(-1).max()
    seconds = by_turns(loops, num_turns)
    # The calmest turn: what the machine can do, whatever else it does at the time.
    rates = {name: num_persons / min(taken) for name, taken in seconds.items()}
    report.say(f"| one pass over the bytes (`torch.max`) | {rates['bytes']:,.0f} /s | | |")
    for name, wanted in (("quarter", 30_000), ("dark", 7_400), ("udp", 7_400)):
        report.row(f"{name}", f"{rates[name]:,.0f} /s", f">= {wanted:,} /s", rates[name] >= wanted)
    for name, wanted_px in (("quarter", None), ("dark", 0.15), ("udp", 0.15)):
        joints = random_joints(500, made[name])
        found = made[name].decode(made[name].encode(joints)[0])[0]
        error = (found - joints[..., :2]).norm(dim=-1)
        report.row(
            f"{name}: error on noise-free heatmaps, input pixels",
            f"mean {error.mean():.4f}, largest {error.max():.4f}",
            "" if wanted_px is None else f"<= {wanted_px:.2f}",
            wanted_px is None or bool(error.max() <= wanted_px),
        )


def official_metrics(truth: dict[str, Any], results: Sequence[dict[str, Any]]) -> list[float]:
    """By pycocotools, silently."""
    import contextlib
    import copy
    import io

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        index = COCO()
        index.dataset = copy.deepcopy(truth)
        index.createIndex()
        evaluation = COCOeval(index, index.loadRes(copy.deepcopy(list(results))), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


def metrics_of(
    truth: dict[str, Any], results: Sequence[dict[str, Any]], skeleton: Skeleton = COCO_17
) -> list[float]:
    metrics = coco_metrics(truth, results, skeleton)
    return [getattr(metrics, name) for name in METRICS_IN_COCO_ORDER]


def coco_evaluation(report: Report, scale: float) -> None:
    counts = [round(scale * number) for number in (5_000, 11_000, 100_000)]
    report.table(
        "COCO evaluation of {:,} images, {:,} ground truths, {:,} detections".format(*counts)
    )
    truth, results = random_coco(*counts)
    start = time.perf_counter()
    ours = metrics_of(truth, results)
    middle = time.perf_counter()
    official = official_metrics(truth, results)
    end = time.perf_counter()
    ratio = (end - middle) / (middle - start)
    report.row(
        "ours",
        f"{middle - start:.1f} s, pycocotools {end - middle:.1f} s: {ratio:.1f} times as fast",
        ">= 4",
        ratio >= 4,
    )
    report.row(
        "all ten metrics equal to the last digit",
        f"AP {ours[0]:.15f}",
        f"{official[0]:.15f}",
        ours == official,
    )


def posetrack_evaluation(report: Report, num_frames: int = 2_000, num_people: int = 10) -> None:
    report.table(f"PoseTrack AP of {num_frames:,} frames with {num_people} people each")
    frames, results = random_posetrack(num_frames, num_people)
    start = time.perf_counter()
    ap = posetrack_ap(frames, results, read_skeleton("posetrack_18"))
    taken = time.perf_counter() - start
    report.row(f"mAP {ap.mean:.4f}", f"{taken:.2f} s", "< 3 s", taken < 3)


def known_answers(report: Report, root: Path) -> None:
    report.table("Known answers")
    truth = json.loads((root / "cocoeval" / "example_coco_val.json").read_text())
    predictions = json.loads((root / "cocoeval" / "example_coco_preds.json").read_text())
    found = [round(value, 3) for value in metrics_of(truth, predictions)[:6]]
    wanted = [0.861, 0.993, 0.911, 0.776, 0.937, 0.875]
    report.row(
        "the `cocoeval` pair: AP, AP50, AP75, APM, APL, AR",
        str(found),
        str(wanted),
        found == wanted,
    )
    video = read_posetrack(
        root / "bonn_video" / "060470979.json", root / "bonn_video", read_skeleton("posetrack_18")
    )
    sets = {
        name: read_coco(root / files[0], root / files[1], COCO_17)
        for name, files in COCO_FILES.items()
    }
    sets["bonn_video"] = video
    for name, data in sets.items():
        ap = coco_metrics(data.ground_truth, truth_as_results(data), data.skeleton).ap
        keypoints = np.stack([person.keypoints_K3 for person in data.persons])
        share = pck(
            keypoints[..., :2], keypoints, torso_sizes(keypoints, data.skeleton), PCK_THRESHOLD
        ).mean
        report.row(
            f"{name}: ground truth as prediction",
            f"AP {ap:.3f}, PCK {share:.3f}",
            "1.000",
            ap == share == 1,
        )
    mean = posetrack_ap(video.frames, truth_as_results(video), video.skeleton).mean
    report.row(
        "bonn_video: ground truth as prediction", f"PoseTrack mAP {mean:.3f}", "1.000", mean == 1
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--report", type=Path, help="markdown file to write")
    parser.add_argument("--quick", action="store_true", help="smaller, to see that it runs")
    options = parser.parse_args()
    if "VIPNAS_DATA" not in os.environ:
        print(
            "bench_data: VIPNAS_DATA is not set: it names the folder of the real data",
            file=sys.stderr,
        )
        return 1
    root = Path(os.environ["VIPNAS_DATA"])
    keep_freed_memory()  # as every command does
    report = Report()
    crops(
        report, root, num_persons=64 if options.quick else 384, num_epochs=1 if options.quick else 3
    )
    codecs(report, num_turns=3 if options.quick else 30)
    coco_evaluation(report, scale=0.02 if options.quick else 1.0)
    posetrack_evaluation(report, num_frames=200 if options.quick else 2_000)
    known_answers(report, root)
    write_report(options.report, report.lines)
    return 1 if report.failed else 0


if __name__ == "__main__":
    exit_with(main)
