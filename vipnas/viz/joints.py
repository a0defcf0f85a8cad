"""Plot the AP of each joint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vipnas.viz.plots import SERIES, write_figure


def draw_ap_by_joint(path: Path, aps: Mapping[str, Mapping[str, float]], split: str) -> None:
    """Write a PNG with a bar for each joint of each network.

    Args:
        path: The PNG file.
        aps: The AP (0..1) by joint of each network, by the name of the network.
        split: What the networks were measured on, for the axis.
    """
    # Not pyplot, which looks for a display and keeps every figure alive.
    from matplotlib.figure import Figure

    joints = list({joint: None for found in aps.values() for joint in found})
    rows, thickness = np.arange(len(joints)), 0.8 / len(aps)
    height = 1.2 + len(joints) * max(0.26, 0.17 * len(aps))
    figure = Figure(figsize=(6.5, height), layout="constrained")
    axis = figure.subplots()
    for number, (name, found) in enumerate(aps.items()):
        values = [max(0.0, found.get(joint, 0.0)) for joint in joints]
        places = rows + thickness * (number - (len(aps) - 1) / 2)
        bars = axis.barh(places, values, 0.9 * thickness, color=SERIES[number], label=name)
        axis.bar_label(bars, [f"{value:.2f}" for value in values], padding=3, fontsize=8)
    axis.set(xlim=(0, 1.08), xlabel=f"AP on the {split} split, each joint by itself")
    axis.set_yticks(rows, [joint.replace("_", " ") for joint in joints])
    axis.margins(y=0.01)
    axis.invert_yaxis()
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    if len(aps) > 1:
        axis.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(aps))
    write_figure(path, figure)
