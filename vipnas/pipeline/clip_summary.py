"""What came of a temporal level: found networks beside others of the same mean cost, compute along
the clip, error against the distance from the key frame."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vipnas.arch.clip import VideoArch
from vipnas.arch.io import read_video_arch
from vipnas.data.formats.skeletons import Skeleton
from vipnas.data.poses import TrackedPose
from vipnas.evaluation.clips import InheritedClipScore
from vipnas.evaluation.oks import pose_similarity
from vipnas.files import to_plain, write_atomically
from vipnas.models.clipnet import FollowUpNets, VideoNet
from vipnas.models.counting import frame_costs, mean_cost
from vipnas.models.posenet import PoseNet
from vipnas.pipeline.clip_level import ClipLevel, video_scores
from vipnas.pipeline.level import best_file, network_file, supernet_file
from vipnas.pipeline.models import open_clip
from vipnas.pipeline.search import search_methods
from vipnas.quantities import QUANTITIES, header_cells, known_quantities, value_cells
from vipnas.viz.figures import write_figure

LONGEST_DISTANCE = 7


def summarise_video(level: ClipLevel) -> Path:
    """Write `video/summary.json` and `video/along_clip.png`; returns the former.

    Rows are metrics on the test videos, in online order. All but the last run with inherited
    weights. `tools/benchmarks/video.py` compares networks of other trainings.
    """
    supernet = level.load_supernet(supernet_file(level)).to(level.experiment.device)
    inherited = level.scorer(supernet)
    found = read_video_arch(best_file(level))
    _, compared_with = search_methods(level)
    archs = {
        "found, inherited": found,
        "found without fusion, inherited": found.without_fusion(),
        "random search's best, inherited": read_video_arch(best_file(level, compared_with)),
    }
    networks = {name: inherited_video(level, inherited, arch) for name, arch in archs.items()}
    retrained = open_clip(level.experiment, network_file(level))
    networks["key frame's network in every frame"] = every_frame(level.key_frame)
    networks["found, retrained"] = retrained
    summary = {
        "test": [row_of(level, name, network) for name, network in networks.items()],
        "along_clip": along_clip(found),
        "drift": drift(level, retrained),
    }
    path = level.folder.root / "summary.json"
    write_atomically(path, json.dumps(summary, indent=2) + "\n")
    draw_along_clip(path.with_name("along_clip.png"), summary)
    print_video_summary(summary)
    return path


def inherited_video(level: ClipLevel, score_of: InheritedClipScore, arch: VideoArch) -> VideoNet:
    """Return the networks of a clip with the supernet's weights."""
    return VideoNet(level.key_frame, score_of.network(arch))


def every_frame(network: PoseNet) -> VideoNet:
    """Return an image network as the network of a clip of one frame."""
    return VideoNet(network, FollowUpNets([]))


def row_of(level: ClipLevel, name: str, network: VideoNet) -> dict[str, Any]:
    """Return the mean cost of a frame, and metrics on the test videos."""
    data = level.videos("test")
    scores = video_scores(data, level.online(network)(data.videos))
    return {
        "networks": name,
        **to_plain(mean_cost(network.arch)),
        **{key: to_plain(value) for key, value in scores.items()},
    }


def along_clip(arch: VideoArch) -> list[dict[str, Any]]:
    """Return the cost and the fusion of each frame of a clip."""
    fusions = ["key frame", *(str(one.fusion or "none") for one in arch.follow_ups)]
    return [
        {"frame": number, "fusion": fusion, **to_plain(cost)}
        for number, (fusion, cost) in enumerate(zip(fusions, frame_costs(arch), strict=True))
    ]


def drift(level: ClipLevel, network: VideoNet) -> list[dict[str, float]]:
    """`drift_of` what networks find in the test videos, at distances up to 7.

    Where a clip is shorter, its follow-up networks are used in turn.
    """
    data = level.videos("test")
    found = level.online(network.repeated(LONGEST_DISTANCE))(data.videos)
    return drift_of(found, data.skeleton)


def drift_of(found: Sequence[TrackedPose], skeleton: Skeleton) -> list[dict[str, float]]:
    """Return mean similarity (OKS) and error by the number of frames since the key frame.

    Persons without a labelled joint are left out, and distances at which there is no other. The
    error of a joint is in percent of the square root of the person's area.
    """
    at: dict[int, list[TrackedPose]] = {}
    for item in found:
        if (item.person.keypoints_K3[:, 2] > 0).any():
            at.setdefault(item.distance, []).append(item)
    return [_at_distance(at[distance], distance, skeleton) for distance in sorted(at)]


def _at_distance(
    found: Sequence[TrackedPose], distance: int, skeleton: Skeleton
) -> dict[str, float]:
    similarity, errors = [], []
    for item in found:
        person, xy_K2 = item.person, item.keypoints_K3[:, :2]
        labelled_K = person.keypoints_K3[:, 2] > 0
        area = np.array([person.area])
        truth_K2 = person.keypoints_K3[:, :2]
        pair = pose_similarity(
            xy_K2[None], area, truth_K2[None], area, skeleton.sigmas, labelled_K[None]
        )
        similarity.append(pair[0, 0])
        lengths_K = np.linalg.norm(xy_K2 - truth_K2, axis=1)[labelled_K]
        errors.append(100 * lengths_K.mean() / person.area**0.5)
    return {
        "distance": distance,
        "people": len(found),
        "oks": round(float(np.mean(similarity)), 4),
        "error_percent": round(float(np.mean(errors)), 3),
    }


def draw_along_clip(path: Path, summary: dict[str, Any]) -> None:
    """Draw a PNG: compute of each frame with its fusion, and the error by distance."""
    # Without pyplot, which looks for a display and keeps every figure alive.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    frames = summary["along_clip"]
    cost = QUANTITIES["macs"]
    heights = [frame[cost.name] / cost.scale for frame in frames]
    colours = ["tab:orange", *["tab:blue"] * (len(frames) - 1)]
    bars = left.bar(range(len(frames)), heights, color=colours)
    labels = [f"{cost.shown(frame[cost.name])}\n{frame['fusion']}" for frame in frames]
    left.bar_label(bars, labels, label_type="center", color="white")
    left.axhline(float(np.mean(heights)), color="gray", linestyle="--", label="mean")
    left.set(xlabel="frame of the clip", ylabel=cost.label, xticks=range(len(frames)))
    left.margins(y=0.25)
    left.legend()
    errors = [row["error_percent"] for row in summary["drift"]]
    right.plot([row["distance"] for row in summary["drift"]], errors, "o-")
    right.set(xlabel="frames since the key frame", ylabel="joint error, % of the person's size")
    right.set_ylim(0, 1.1 * max(errors))
    right.grid(alpha=0.3)
    write_figure(path, figure)


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
