"""Measure key frames by need beside the fixed clock, at equal mean cost.

    python -m tools.benchmarks.key_frames EXPERIMENT --output RUN --held-out DIR --test DIR

Takes the retrained networks of a finished `vipnas run`. Both folders have videos with labels, as
`vipnas synthesize --video` writes them. A threshold is chosen on the first, so that the mean MACs
of a frame are at most those of the clock. All rows are measured on the second, in online order:

    clock            a key frame every T + 1 frames
    score, change    key frames by need, with each trigger
    warp, ...        the same without follow-up networks: warped heatmaps alone, of the same budget
    frame N warped   the clock; the network of one follow-up frame is left out

Prints a table, with the interval of the difference in OKS AP to the clock over draws of the videos.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from vipnas.arch.clip import KeyFrameRule
from vipnas.config.clip import KeyFramesByNeed
from vipnas.data.formats.posetrack import PoseTrackData, read_posetrack
from vipnas.evaluation.coco_ap import ap_difference_interval
from vipnas.evaluation.key_frames import TRIGGERS
from vipnas.evaluation.online import video_scores
from vipnas.memory import keep_freed_memory
from vipnas.models.clipnet import FollowUpNets, VideoNet
from vipnas.models.counting import cost_at, mean_cost
from vipnas.pipeline.clip_level import ClipLevel
from vipnas.pipeline.clip_online import rule_within, run_online
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.level import network_file
from vipnas.pipeline.models import open_clip


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", help="experiment YAML, a file or a shipped name")
    parser.add_argument("--output", type=Path, required=True, help="folder of the finished run")
    parser.add_argument("--held-out", type=Path, required=True, help="videos for the thresholds")
    parser.add_argument("--test", type=Path, required=True, help="videos to measure on")
    parser.add_argument("--max-interval", type=int, default=12, metavar="N")
    options = parser.parse_args(arguments)
    keep_freed_memory()
    device = torch.device("cpu")
    experiment = Experiment.open(options.experiment, options.output, Path(), device)
    found = open_clip(experiment, network_file(ClipLevel(experiment)))
    held_out, test = (videos_in(experiment, one) for one in (options.held_out, options.test))
    length, max_macs = len(found.arch) - 1, mean_cost(found.arch).macs
    warped = VideoNet(found.key_frame, FollowUpNets([None] * length))
    rows: list[tuple[str, VideoNet, KeyFrameRule | None]] = [
        ("clock", found, None),
        ("warp, clock", warped, None),
    ]
    for number in range(length):
        networks = [None if own == number else found.follow_ups[own] for own in range(length)]
        one = VideoNet(found.key_frame, FollowUpNets(networks))
        rows.append((f"frame {number + 1} warped", one, None))
    for trigger in TRIGGERS:
        settings = KeyFramesByNeed(trigger, options.max_interval, len(held_out.videos))
        for name, network in ((trigger, found), (f"warp, {trigger}", warped)):
            rule = rule_within(experiment, network, settings, held_out, max_macs)
            if rule is not None:
                rows.append((name, network, rule))
    print_rows(experiment, test, rows)
    return 0


def videos_in(experiment: Experiment, folder: Path) -> PoseTrackData:
    return read_posetrack(folder / "annotations", folder, experiment.skeleton)


def print_rows(
    experiment: Experiment,
    test: PoseTrackData,
    rows: list[tuple[str, VideoNet, KeyFrameRule | None]],
) -> None:
    videos = [[frame.image_id for frame in video.frames] for video in test.videos]
    first = None
    print(
        f"{'key frames':16} {'MMACs':>6} {'share':>6} {'OKS AP':>7} {'mAP':>6}  AP - clock (95 %)"
    )
    for name, network, rule in rows:
        found = run_online(experiment, network, test, rule=rule)
        distances, results = [pose.distance for pose in found], [pose.result() for pose in found]
        scores, first = video_scores(test, found), first or results
        low, high = ap_difference_interval(test.ground_truth, results, first, test.skeleton, videos)
        print(
            f"{name:16} {cost_at(network.arch, distances).macs / 1e6:6.2f}"
            f" {distances.count(0) / len(distances):6.1%} {scores['coco'].ap:7.3f}"  # type: ignore[union-attr]
            f" {scores['posetrack'].mean:6.3f}  {low:+.3f} to {high:+.3f}; {rule or ''}",  # type: ignore[union-attr]
            flush=True,
        )


if __name__ == "__main__":
    raise SystemExit(main())
