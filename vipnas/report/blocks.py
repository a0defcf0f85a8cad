"""What a page is made of: sections, and the blocks in them. `page` lays them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

Symbol: TypeAlias = Literal["circle", "ring", "diamond", "star"]
# The names of CSS variables: colours of runs, in their order, then those with a fixed meaning.
RUN_COLOURS = tuple(f"--run{number}" for number in range(8))
RANDOM, REFERENCE, WINNER = "--random", "--reference", "--winner"
# Instead of a value that is not known.
UNKNOWN = "–"


@dataclass(frozen=True)
class Series:
    """Points of a chart.

    Attributes:
        name: The name in the legend; series with one name are shown and hidden together.
        x: The first coordinates.
        y: The second coordinates; a None interrupts a line.
        colour: The name of a CSS variable.
        kind: Points, straight lines between them, or steps that keep a value until the next.
        texts: The key of the lines that a point shows under the pointer, in the chart's block.
        size_px: The diameter of points, or the width of lines.
        symbol: The shape of points.
        faint: Draw it half transparent.
        dashed: Draw lines dashed.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    colour: str
    kind: Literal["points", "line", "step"] = "line"
    texts: str | None = None
    size_px: float = 2.0
    symbol: Symbol = "circle"
    faint: bool = False
    dashed: bool = False


@dataclass(frozen=True)
class Mark:
    """A vertical line with a label."""

    x: float
    label: str


@dataclass(frozen=True)
class Chart:
    """A chart with two axes.

    Attributes:
        title: The heading.
        x_label: The label of the first axis, with its unit.
        y_label: The label of the second.
        series: The points, drawn in this order.
        marks: Vertical lines.
        log_y: Whether the second axis is logarithmic, for positive values.
        whole_x: Whether the first axis counts something.
    """

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    marks: Sequence[Mark] = ()
    log_y: bool = False
    whole_x: bool = False


@dataclass(frozen=True)
class Charts:
    """Charts side by side, and the lines of text that their points share."""

    kind: ClassVar[str] = "charts"
    charts: Sequence[Chart]
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Card:
    """A number with its name, and a remark."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Cards:
    """Numbers that a reader sees first, under a heading."""

    kind: ClassVar[str] = "cards"
    cards: Sequence[Card]
    heading: str = ""


@dataclass(frozen=True)
class Table:
    """A table whose first column names the row.

    Attributes:
        columns: The headings.
        rows: The cells.
        emphasised: Numbers of rows, from 0, in bold.
        caption: A line above it.
        is_text: Whether cells are words, which wrap, and no numbers.
    """

    kind: ClassVar[str] = "table"
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    emphasised: Sequence[int] = ()
    caption: str = ""
    is_text: bool = False


@dataclass(frozen=True)
class Text:
    """A paragraph; `is_missing` for data that a run does not have, and what brings them."""

    kind: ClassVar[str] = "text"
    text: str
    is_missing: bool = False


@dataclass(frozen=True)
class Code:
    """Lines to copy."""

    kind: ClassVar[str] = "code"
    title: str
    text: str


@dataclass(frozen=True)
class Folded:
    """Blocks that are shown on a click."""

    kind: ClassVar[str] = "folded"
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Drawing:
    """An element of SVG or HTML that takes its colours from the page."""

    kind: ClassVar[str] = "drawing"
    markup: str
    caption: str = ""


@dataclass(frozen=True)
class Pictures:
    """Pictures with captions, as `data:` addresses."""

    kind: ClassVar[str] = "pictures"
    pictures: Sequence[tuple[str, str]]


Block: TypeAlias = Charts | Cards | Table | Text | Code | Folded | Drawing | Pictures


@dataclass(frozen=True)
class Section:
    """A section: its anchor, its title, a line that says what it shows, and its blocks."""

    anchor: str
    title: str
    lead: str
    blocks: Sequence[Block]


def missing(text: str) -> Text:
    """Return the line of a section whose data a run does not have."""
    return Text(text, is_missing=True)
