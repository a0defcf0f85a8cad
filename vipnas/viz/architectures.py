"""Draw architectures stage by stage as SVG, below each other, with what differs marked.

A part of a network is a row of slabs, one for each block: as high as its resolution, as thick as
its width. Under it are its choices, and its share of the cost. Colours are CSS variables, so that
a page gives them; a file of its own has them inside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from vipnas.arch.clip import Fusion, VideoArch, fusion_in_words
from vipnas.arch.image import Arch, DeconvArch, StageArch, StemArch
from vipnas.models.blocks import SimccShape
from vipnas.models.counting import count_cost, segment_costs
from vipnas.models.posenet import Segment, segments

COLUMN_PX, LABELS_PX, SHAPES_PX, ROW_PX, TITLE_PX = 98, 92, 88, 19, 30
SLAB_PX, SLAB_GAP_PX = (5.0, 20.0), 2
MOST_SLABS_PX = 84

# Milliseconds of each part of a network, by its name.
PartMs = Callable[[Arch], Mapping[str, float]]

STYLE = """
svg.archs { font: 12px system-ui, sans-serif; fill: var(--text, #1b1f24); }
svg.archs .soft { fill: var(--soft, #5b6570); }
svg.archs .title { font-size: 14px; font-weight: 600; }
svg.archs .stem { fill: var(--part0, #cfe3f7); }
svg.archs .stage { fill: var(--part1, #d6efdf); }
svg.archs .deconv { fill: var(--part2, #fbe3c4); }
svg.archs .heatmaps, svg.archs .simcc { fill: var(--part3, #eadcf5); }
svg.archs .slab { stroke: var(--soft, #5b6570); stroke-width: .7; }
svg.archs .changed { fill: var(--changed, #d81b60); font-weight: 700; }
svg.archs .bar { fill: var(--run0, #0b6fc2); opacity: .35; }
svg.archs .fusion { fill: none; stroke: var(--run4, #c77700); stroke-width: 2; }
"""
FILE_STYLE = """
svg.archs { background: #ffffff; }
@media (prefers-color-scheme: dark) {
  svg.archs {
    background: #14171b; --text: #e6e9ed; --soft: #9aa4b0; --part0: #1f3d5c; --part1: #1f4433;
    --part2: #4d3817; --part3: #3c2a50; --changed: #ff5c95; --run0: #58aef5; --run4: #ffb04d;
  }
}
"""


@dataclass(frozen=True)
class Drawn:
    """An image network to draw.

    Attributes:
        title: The heading.
        arch: The architecture; None for a frame without a network, which has a heading alone.
        fusion: Where it takes in the heatmaps of the previous frame.
    """

    title: str
    arch: Arch | None
    fusion: Fusion | None = None


def drawn_of(title: str, arch: Arch | VideoArch) -> list[Drawn]:
    """Return the networks of an architecture: one, or those of all frames of a clip."""
    if isinstance(arch, Arch):
        return [Drawn(title, arch)]
    frames = [Drawn(f"{title}, key frame", arch.key_frame)]
    for number, one in enumerate(arch.follow_ups, start=1):
        named = f"{title}, frame {number}: {fusion_in_words(one)}"
        frames.append(Drawn(named, None) if one is None else Drawn(named, one.arch, one.fusion))
    return frames


def draw_architectures(
    first: Sequence[Drawn],
    second: Sequence[Drawn] = (),
    part_ms: PartMs | None = None,
    is_file: bool = False,
) -> str:
    """Return an SVG element.

    Args:
        first: Networks to draw.
        second: Networks to draw beside them, in the same order. In both, choices that differ from
            those of the other are marked.
        part_ms: Returns the milliseconds of the parts of a network.
        is_file: Whether it is a document of its own, with colours inside.
    """
    pairs = [
        (one, other)
        for number in range(max(len(first), len(second)))
        for one, other in (
            (_at(first, number), _at(second, number)),
            (_at(second, number), _at(first, number)),
        )
        if one is not None
    ]
    archs = [one.arch for one, _ in pairs if one.arch is not None]
    columns = list({part.name: None for arch in archs for part in segments(arch)})
    columns.sort(key=_place)
    body, top = [], 8
    for one, other in pairs:
        panel, height = _panel(one, other, columns, top, part_ms)
        body += panel
        top += height
    width = LABELS_PX + COLUMN_PX * len(columns) + 8
    style = STYLE + (FILE_STYLE if is_file else "")
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="archs" role="img" width="{width}" '
        f'height="{top}" viewBox="0 0 {width} {top}"><style>{style}</style>'
    )
    return "\n".join((head, *body, "</svg>")) + "\n"


def _at(networks: Sequence[Drawn], number: int) -> Drawn | None:
    return networks[number] if number < len(networks) else None


def _kind(name: str) -> str:
    return name.rstrip("0123456789")


def _place(name: str) -> tuple[int, int]:
    """Return where a part comes in a network, for networks with different numbers of stages."""
    kind = _kind(name)
    return ("stem", "stage", "deconv", "heatmaps", "simcc").index(kind), int(name[len(kind) :] or 0)


def _panel(
    drawn: Drawn, other: Drawn | None, columns: Sequence[str], top: int, part_ms: PartMs | None
) -> tuple[list[str], int]:
    """Return the elements of one network, and their height."""
    if drawn.arch is None:
        return [_text(8, top + 16, drawn.title, "title")], TITLE_PX
    cost, marks = count_cost(drawn.arch), _choices(drawn.arch)
    beside = {} if other is None or other.arch is None else _choices(other.arch)
    shares = _shares(drawn.arch, part_ms)
    names = [name for name in _ROWS if any(name in found for found in marks.values())]
    # A row in which all parts have the default of the choice would only take room.
    names = [n for n in names if n != "expand" or any(m.get(n, "1") != "1" for m in marks.values())]
    lines = [
        _text(8, top + 16, drawn.title, "title"),
        _text(LABELS_PX + COLUMN_PX * len(columns), top + 16, str(cost), "soft", "end"),
    ]
    base = top + TITLE_PX + SHAPES_PX
    for number, name in enumerate(names):
        lines.append(_text(8, base + ROW_PX * (number + 2), name, "soft"))
    for number, share in enumerate(shares):
        lines.append(_text(8, base + ROW_PX * (len(names) + number + 2), share, "soft"))
    parts = {part.name: part for part in segments(drawn.arch)}
    tallest = max(output_hw(part)[0] for part in parts.values())
    for column, name in enumerate(columns):
        if name not in parts:
            continue
        middle = LABELS_PX + COLUMN_PX * column + COLUMN_PX / 2
        lines += _slabs(parts[name], middle, top + TITLE_PX, tallest)
        if drawn.fusion is not None and _is_fused(drawn, name):
            lines.append(_fusion(middle, top + TITLE_PX))
        lines.append(_text(middle, base + ROW_PX, name, "soft", "middle"))
        for number, choice in enumerate(names):
            value = marks[name].get(choice, "")
            is_changed = other is not None and beside.get(name, {}).get(choice, "") != value
            y = base + ROW_PX * (number + 2)
            lines.append(_text(middle, y, value, "changed" if is_changed else "", "middle"))
        for number, found in enumerate(shares.values()):
            y = base + ROW_PX * (len(names) + number + 2)
            lines += _share(middle, y, found.get(name, 0.0))
    height = TITLE_PX + SHAPES_PX + ROW_PX * (len(names) + len(shares) + 1) + 26
    return lines, height


_ROWS = ("resolution", "width", "blocks", "kernel", "groups", "expand", "attention")


def _choices(arch: Arch) -> dict[str, dict[str, str]]:
    """Return the choices of each part as they are written, in the order of `_ROWS`."""
    found = {}
    for part in segments(arch):
        height, width = output_hw(part)
        choices: dict[str, str] = {"resolution": f"{height} x {width}"}
        match part.arch:
            case StageArch() as stage:
                choices |= {
                    "width": str(stage.width),
                    "blocks": str(stage.depth),
                    "kernel": str(stage.kernel_size),
                    "groups": str(stage.groups),
                    "expand": str(stage.expand_ratio),
                    "attention": "yes" if stage.attention else "–",
                }
            case StemArch(width=channels, kernel_size=kernel_size):
                choices |= {"width": str(channels), "kernel": str(kernel_size)}
            case DeconvArch(width=channels, kernel_size=kernel_size, groups=groups):
                choices |= {"width": str(channels), "kernel": str(kernel_size)}
                choices |= {"groups": str(groups)}
            case SimccShape(num_keypoints=joints, kernel_size=kernel_size, bins_xy=bins_xy):
                choices |= {"resolution": "{} + {}".format(*bins_xy), "width": str(joints)}
                choices |= {"kernel": str(kernel_size)}
            case int(num_keypoints):
                choices |= {"width": str(num_keypoints)}
        found[part.name] = choices
    return found


def output_hw(part: Segment) -> tuple[int, int]:
    """Return the height and the width of what a part computes."""
    height, width = part.in_hw
    match part.arch:
        case StageArch(stride=stride):
            return height // stride, width // stride
        case StemArch() as stem:
            return height // stem.stride, width // stem.stride
        case DeconvArch():
            return 2 * height, 2 * width
    return height, width


def _shares(arch: Arch, part_ms: PartMs | None) -> dict[str, Mapping[str, float]]:
    """Return the share of each part in a cost, by the name of the cost."""
    amounts: dict[str, Mapping[str, float]] = {
        "MACs": {part.name: float(cost.macs) for part, cost in segment_costs(arch)}
    }
    if part_ms is not None:
        amounts["milliseconds"] = part_ms(arch)
    return {
        name: {part: value / (sum(found.values()) or 1.0) for part, value in found.items()}
        for name, found in amounts.items()
    }


def _slabs(part: Segment, middle: float, top: float, tallest: int) -> list[str]:
    """Return a slab for each block, centred; its height is that of its output."""
    channels, count = _size(part)
    low, high = SLAB_PX
    thick = min(low + channels**0.5 * 0.7, high, (MOST_SLABS_PX - SLAB_GAP_PX * count) / count)
    high_px = SHAPES_PX * (0.16 + 0.84 * (output_hw(part)[0] / tallest) ** 0.6) - 6
    left = middle - (count * (thick + SLAB_GAP_PX) - SLAB_GAP_PX) / 2
    y = top + (SHAPES_PX - high_px) / 2
    return [
        f'<rect class="slab {_kind(part.name)}" x="{left + number * (thick + SLAB_GAP_PX):.1f}" '
        f'y="{y:.1f}" width="{thick:.1f}" height="{high_px:.1f}" rx="2"/>'
        for number in range(count)
    ]


def _size(part: Segment) -> tuple[int, int]:
    """Return the channels and the number of blocks of a part."""
    match part.arch:
        case StageArch(width=width, depth=depth):
            return width, depth
        case StemArch(width=width) | DeconvArch(width=width):
            return width, 1
        case SimccShape(num_keypoints=num_keypoints) | int(num_keypoints):
            return num_keypoints, 1


def _is_fused(drawn: Drawn, name: str) -> bool:
    """Return whether the fusion comes after this part; stages count before deconvolutions."""
    assert drawn.fusion is not None and drawn.arch is not None
    kind, number = _place(name)
    num_stages = len(drawn.arch.stages)
    return drawn.fusion.stage == (number if kind == 1 else num_stages + number) and kind in (1, 2)


def _fusion(middle: float, top: float) -> str:
    """Return an arrow into the right side of a part."""
    x, y = middle + COLUMN_PX / 2, top + 2
    return (
        f'<path class="fusion" d="M{x:.1f} {y}v{SHAPES_PX / 2 - 8:.1f}m-4 -6l4 6l4 -6">'
        f"<title>fusion with the heatmaps of the previous frame</title></path>"
    )


def _share(middle: float, y: float, share: float) -> list[str]:
    half = COLUMN_PX / 2 - 8
    return [
        f'<rect class="bar" x="{middle - half:.1f}" y="{y - 11}" width="{2 * half * share:.1f}" '
        f'height="14" rx="2"/>',
        _text(middle, y, f"{share:.1%}", "", "middle"),
    ]


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'
    )
