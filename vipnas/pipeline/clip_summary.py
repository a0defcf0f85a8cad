"""Summarise a temporal level: networks of the same mean cost, compute of each frame, and drift."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vipnas.arch.clip import VideoArch, fusion_name
from vipnas.arch.io import read_video_arch
from vipnas.data.formats.posetrack import PoseTrackData
from vipnas.evaluation.drift import drift_of
from vipnas.evaluation.key_frames import KeyFrameUse
from vipnas.evaluation.online import OnlineLoop
from vipnas.files import to_plain, write_atomically
from vipnas.models.clipnet import VideoNet
from vipnas.models.counting import frame_costs, mean_cost
from vipnas.models.file import read_clip
from vipnas.pipeline.clip_level import ClipLevel
from vipnas.pipeline.level import best_file, network_file, supernet_file
from vipnas.pipeline.search import search_methods
from vipnas.quantities import header_cells, known_quantities, value_cells
from vipnas.viz.along_clip import draw_along_clip

LONGEST_DISTANCE = 7


def summarise_video(level: ClipLevel) -> Path:
    """Write `video/summary.json` and `video/along_clip.png`; returns the former.

    Rows are metrics on the test videos, in online order. All but the last run with inherited
    weights. The drift is up to distances of 7, with the follow-up networks in turn where a clip is
    shorter. `tools/benchmarks/video.py` compares networks of other trainings.
    """
    score_of = level.scorer(level.load_supernet(supernet_file(level)).to(level.experiment.device))
    found, data = read_video_arch(best_file(level)), level.videos("test")
    _, compared_with = search_methods(level)
    archs = {
        "found, inherited": found,
        "found without fusion, inherited": found.without_fusion(),
        "random search's best, inherited": read_video_arch(best_file(level, compared_with)),
    }
    networks = {
        name: VideoNet(level.key_frame, score_of.network(arch))
        for name, arch in archs.items()
        if arch in level.space  # a space may have a fusion in every frame
    }
    networks["key frame's network in every frame"] = VideoNet(level.key_frame)
    loops = {name: level.loop(network) for name, network in networks.items()}
    loops["found, retrained"] = level.loop_of(network_file(level))
    retrained, _ = read_clip(network_file(level))
    far = level.loop(retrained.repeated(LONGEST_DISTANCE))(data.videos)
    summary = {
        "test": [row_of(name, loop, data) for name, loop in loops.items()],
        "along_clip": along_clip(found),
        "drift": drift_of(far, level.experiment.skeleton),
    }
    path = level.folder.root / "summary.json"
    write_atomically(path, json.dumps(summary, indent=2) + "\n")
    draw_along_clip(path.with_name("along_clip.png"), summary["along_clip"], summary["drift"])
    print_video_summary(summary)
    return path


def row_of(name: str, loop: OnlineLoop, data: PoseTrackData) -> dict[str, Any]:
    """Return the mean cost of a frame, of key frames by need on these videos, and the scores."""
    (scores, _), cost = loop.scores(data), mean_cost(loop.network.arch)
    if isinstance(use := scores.pop("key_frames", None), KeyFrameUse):
        cost = cost.with_values(macs=use.macs)
    plain = {key: to_plain(value) for key, value in scores.items()}
    return {"networks": name, **to_plain(cost), **plain}


def along_clip(arch: VideoArch) -> list[dict[str, Any]]:
    """Return the cost and the fusion of each frame of a clip."""
    fusions = ["key frame", *map(fusion_name, arch.follow_ups)]
    return [
        {"frame": number, "fusion": fusion, **to_plain(cost)}
        for number, (fusion, cost) in enumerate(zip(fusions, frame_costs(arch), strict=True))
    ]


def print_video_summary(summary: dict[str, Any]) -> None:
    costs = known_quantities([*summary["test"], *summary["along_clip"]])
    print(f"\n{'on the test videos':36} {header_cells(costs)} {'OKS AP':>7} {'mAP':>6}")
    for row in summary["test"]:
        mean_ap = f"{row['posetrack']['mean']:6.3f}" if "posetrack" in row else "     -"
        ap = row["coco"]["ap"]
        print(f"{row['networks']:36} {value_cells(costs, row)} {ap:7.3f} {mean_ap}")
    for frame in summary["along_clip"]:
        shown = ", ".join(f"{cost.shown(frame[cost.name])} {cost.unit}" for cost in costs)
        print(f"frame {frame['frame']}: {shown}, {frame['fusion']}")
    errors = ", ".join(f"{row['error_percent']:.2f}" for row in summary["drift"])
    print(f"joint error in % of the person's size, by frames since the key frame: {errors}")
