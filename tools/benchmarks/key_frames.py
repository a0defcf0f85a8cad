"""Measure key frames by need beside the fixed clock, at equal mean cost.

    python -m tools.benchmarks.key_frames EXPERIMENT --output RUN --held-out DIR --test DIR
        [--beside EXPERIMENT RUN ...]

Takes the retrained networks of a finished `vipnas run`. Both folders have videos with labels, as
`vipnas synthesize --video` writes them. A threshold is chosen on the first, so that the mean MACs
of a frame are at most those of the clock. All rows are measured on the second, in online order:

    clock            a key frame every T + 1 frames
    score, change    key frames by need, with each trigger
    warped           the clock; heatmaps are warped in all follow-up frames
    frame N warped   the clock; the network of one follow-up frame is left out
    RUN, ...         the networks of another run beside it: with the clock, and by need

Prints a table, with the interval of the difference in OKS AP to the clock over draws of the videos.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch

from vipnas.config.clip import KeyFramesByNeed
from vipnas.data.formats.posetrack import PoseTrackData, read_posetrack
from vipnas.evaluation.coco_ap import ap_difference_interval
from vipnas.evaluation.key_frames import TRIGGERS
from vipnas.evaluation.metrics import Metrics
from vipnas.evaluation.online import OnlineLoop
from vipnas.evaluation.posetrack_ap import PoseTrackAp
from vipnas.memory import keep_freed_memory
from vipnas.models.clipnet import FollowUpNet, FollowUpNets, VideoNet
from vipnas.models.counting import mean_cost
from vipnas.pipeline.clip_level import ClipLevel
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.level import network_file


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", help="experiment YAML, a file or a shipped name")
    parser.add_argument("--output", type=Path, required=True, help="folder of the finished run")
    parser.add_argument("--held-out", type=Path, required=True, help="videos for the thresholds")
    parser.add_argument("--test", type=Path, required=True, help="videos to measure on")
    parser.add_argument("--max-interval", type=int, default=12, metavar="N")
    parser.add_argument(
        "--beside",
        nargs=2,
        action="append",
        default=[],
        metavar=("EXPERIMENT", "RUN"),
        help="another finished run, whose networks are measured too; may be repeated",
    )
    options = parser.parse_args(arguments)
    keep_freed_memory()
    level = level_of(options.experiment, options.output)
    found = level.loop_of(network_file(level))
    held_out, test = (videos_in(level.experiment, one) for one in (options.held_out, options.test))
    rows = [loops_of(found, held_out, options.max_interval)]
    for experiment, run in options.beside:
        other = level_of(experiment, Path(run))
        loop = other.loop_of(network_file(other))
        rows.append(
            clock_and_by_need(
                f"{Path(run).name}, ", loop, budget_of(found), held_out, options.max_interval
            )
        )
    print_rows(test, chain.from_iterable(rows))
    return 0


def level_of(experiment: str, run: Path) -> ClipLevel:
    return ClipLevel(Experiment.open(experiment, run, Path(), torch.device("cpu")))


def videos_in(experiment: Experiment, folder: Path) -> PoseTrackData:
    return read_posetrack(folder / "annotations", folder, experiment.skeleton)


def loops_of(
    found: OnlineLoop, held_out: PoseTrackData, max_interval: int
) -> Iterator[tuple[str, OnlineLoop]]:
    """Yield the rows by name."""
    assert isinstance(found.network, VideoNet)
    key_frame, networks = found.network.key_frame, list(found.network.follow_ups)

    def with_networks(chosen: Sequence[FollowUpNet | None]) -> OnlineLoop:
        return replace(found, network=VideoNet(key_frame, FollowUpNets(chosen)))

    yield from clock_and_by_need("", found, budget_of(found), held_out, max_interval)
    yield "warped", with_networks([None] * len(networks))
    for number in range(len(networks)):
        left = [None if own == number else network for own, network in enumerate(networks)]
        yield f"frame {number + 1} warped", with_networks(left)


def budget_of(found: OnlineLoop) -> int:
    """Return the mean MACs of a frame with the clock, which all rows by need keep to."""
    assert isinstance(found.network, VideoNet)
    return mean_cost(found.network.arch).macs


def clock_and_by_need(
    prefix: str, loop: OnlineLoop, max_macs: int, held_out: PoseTrackData, max_interval: int
) -> Iterator[tuple[str, OnlineLoop]]:
    """Yield a row for the clock, and one for each trigger whose threshold keeps to the MACs."""
    yield f"{prefix}clock", loop
    for trigger in TRIGGERS:
        settings = KeyFramesByNeed(trigger, max_interval, len(held_out.videos))
        rule = loop.rule_within(max_macs, settings, held_out.videos)
        if rule is not None:
            yield f"{prefix}{trigger}", replace(loop, rule=rule)


def print_rows(test: PoseTrackData, rows: Iterable[tuple[str, OnlineLoop]]) -> None:
    videos = [[frame.image_id for frame in video.frames] for video in test.videos]
    first = None
    print(
        f"{'key frames':22} {'MMACs':>6} {'share':>6} {'OKS AP':>7} {'mAP':>6}  AP - clock (95 %)"
    )
    for name, loop in rows:
        scores, found = loop.scores(test)
        use = loop.use_of([pose.distance for pose in found])
        results = [pose.result() for pose in found]
        first = first or results
        low, high = ap_difference_interval(test.ground_truth, results, first, test.skeleton, videos)
        coco, posetrack = scores["coco"], scores["posetrack"]
        assert isinstance(coco, Metrics) and isinstance(posetrack, PoseTrackAp)
        print(
            f"{name:22} {use.macs / 1e6:6.2f} {use.share:6.1%} {coco.ap:7.3f}"
            f" {posetrack.mean:6.3f}  {low:+.3f} to {high:+.3f}; {loop.rule or ''}",
            flush=True,
        )


if __name__ == "__main__":
    raise SystemExit(main())
