"""What the temporal level is worth, on an experiment that `vipnas run` has finished.

    python -m tools.benchmarks.video experiments/quickstart_video.yaml [--output runs/NAME]

Trains the baselines of the found networks, all at about their mean MACs per frame. Evaluates all on
the test videos in online order:

    (a) found            the networks that the search found, trained on clips
    (b) without fusion   the same networks, trained likewise; each frame sees its image alone
    (c) every frame      the best network of images within that mean cost, in every frame; trained
                         from the same supernet of images, for as many crops as all networks of (a)
    (d) random search    the best of as many random clips, trained as the found ones
    (e) carried along    no network at all after the key frame: only its heatmaps, warped

The found networks also run with other lengths of a clip, T from 1 to 7: their follow-up networks
take turns. Intervals of the differences to (a) are found by drawing test videos with replacement.
Writes OUTPUT/video/bench.json and prints a table. The same command resumes.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from vipnas.arch.io import read_video_arch, write_arch
from vipnas.evaluation.coco_ap import ap_difference_interval
from vipnas.files import write_atomically
from vipnas.memory import keep_freed_memory
from vipnas.models.clipnet import FollowUpNets, VideoNet
from vipnas.models.counting import mean_cost
from vipnas.models.file import read_clip
from vipnas.pipeline.clip_level import ClipLevel
from vipnas.pipeline.clip_summary import row_of
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.image_level import ImageLevel
from vipnas.pipeline.level import best_file, network_file
from vipnas.pipeline.models import open_network
from vipnas.pipeline.retrain import retrain
from vipnas.pipeline.search import search
from vipnas.pipeline.work import needed
from vipnas.quantities import Constraint

LONGEST = 7
OTHERS = (
    "(b) without fusion",
    "(c) every frame",
    "(d) random search",
    "(e) carried along",
    "key frame everywhere",
)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", help="experiment YAML, a file or a shipped name")
    parser.add_argument("--output", type=Path, help="folder of the run (default: runs/NAME)")
    parser.add_argument("--data-root", type=Path, default=Path())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)
    keep_freed_memory()
    device = torch.device(options.device)
    try:
        experiment = Experiment.open(options.experiment, options.output, options.data_root, device)
        level = ClipLevel(experiment)
        networks = compared(level)
        data = level.videos("test")
        rows = [row_of(name, level.loop(network), data) for name, network in networks.items()]
        intervals = {
            f"(a) - {other}": difference(level, networks["(a) found"], networks[other])
            for other in OTHERS
        }
    except (ValueError, OSError) as error:
        print(f"bench_video: {error}", file=sys.stderr)
        return 1
    document = {"test": rows, "difference_of_oks_ap": intervals}
    target = level.folder.root / "bench.json"
    write_atomically(target, json.dumps(document, indent=1) + "\n")
    print(f"\n{'on the test videos':24} {'mean MMACs':>10} {'OKS AP':>7} {'mAP':>6}")
    for row in rows:
        mean_ap = row["posetrack"]["mean"] if "posetrack" in row else float("nan")
        macs, ap = row["macs"] / 1e6, row["coco"]["ap"]
        print(f"{row['networks']:24} {macs:10.2f} {ap:7.3f} {mean_ap:6.3f}")
    for name, (low, high) in intervals.items():
        print(f"{name}: OKS AP {low:+.3f} to {high:+.3f} (95 % of draws of the test videos)")
    return 0


def compared(level: ClipLevel) -> dict[str, VideoNet]:
    """The networks by what they are called in the table, those that are missing being trained."""
    found = read_clip(network_file(level))[0]
    alone_file = level.folder.search / "without_fusion.json"
    write_arch(alone_file, found.arch.without_fusion())
    alone = retrain(level, alone_file, None, level.folder.root / "retrain_without_fusion")
    drawn_file = best_file(level, "random")
    same = read_video_arch(drawn_file) == found.arch
    drawn = (
        network_file(level)
        if same
        else retrain(level, drawn_file, None, level.folder.root / "retrain_random")
    )
    best = best_of_images(level, mean_cost(found.arch).macs)
    every = VideoNet(open_network(level.experiment, best))
    without_fusion, every_one, random_one, carried, key_everywhere = OTHERS
    return {
        "(a) found": found,
        without_fusion: read_clip(alone)[0],
        every_one: every,
        random_one: read_clip(drawn)[0],
        carried: VideoNet(level.key_frame, FollowUpNets([None] * level.space.num_follow_ups)),
        key_everywhere: VideoNet(level.key_frame),
        **{f"(a) with T = {length}": found.repeated(length) for length in range(1, LONGEST + 1)},
    }


def difference(level: ClipLevel, network: VideoNet, other: VideoNet) -> tuple[float, float]:
    """Interval of the difference in OKS AP over the test videos."""
    data = level.videos("test")
    results, others = (
        [item.result() for item in level.loop(one)(data.videos)] for one in (network, other)
    )
    videos = [[frame.image_id for frame in video.frames] for video in data.videos]
    return ap_difference_interval(data.ground_truth, results, others, data.skeleton, videos)


def best_of_images(level: ClipLevel, mean_macs: int) -> Path:
    """Search the supernet of images within that cost, and train what is found as long as a clip's
    networks were trained in all, crop for crop."""
    experiment = level.experiment
    config, output = experiment.config, level.folder.root / "every_frame"
    video = needed(experiment, config.video, "video")
    wanted = needed(experiment, config.search, "search")
    clips = len(level.training_data)
    crops = clips * video.num_follow_ups / len(experiment.training_crops)  # in an epoch of clips
    more = crops * (video.supernet.schedule.num_epochs + video.retrain.schedule.num_epochs)
    schedule = replace(config.retrain.schedule, epochs=config.retrain.schedule.num_epochs + more)
    budget = Constraint("macs", at_most=mean_macs, at_least=0.8 * mean_macs)
    changed = replace(
        config,
        search=replace(wanted, constraints=(budget,)),
        retrain=replace(config.retrain, schedule=schedule),
        video=None,
    )
    output.mkdir(parents=True, exist_ok=True)
    for shared in ("supernet", "data"):  # the same weights, the same videos
        target = (experiment.output / shared).resolve()
        if target.exists() and not (output / shared).exists():
            (output / shared).symlink_to(target)
    images = ImageLevel(replace(experiment, config=changed, output=output))
    return retrain(images, search(images))


if __name__ == "__main__":
    raise SystemExit(main())
