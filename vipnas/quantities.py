"""The quantities that an architecture costs, each spelled once: a row of `QUANTITIES`. No torch.

A new quantity is a row here and a getter where `pipeline` counts costs. Constraints, objectives,
tables, plots and journals then know it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AllowInfNan, SerializerFunctionWrapHandler, model_serializer, model_validator

from vipnas.errors import UserError
from vipnas.files import Strict
from vipnas.tables import check_known

# The one objective that is no cost: a trial's quality, which is maximised.
SCORE = "score"


@dataclass(frozen=True)
class Quantity:
    """A cost of an architecture, lower is better.

    Attributes:
        name: The key in `Cost`, constraints and objectives.
        unit: The unit of displayed values.
        scale: A displayed value is the value over this.
        display: The format of a displayed value.
        exact: The format of a value in its own unit, as in constraints.
        label: The label of an axis with displayed values.
        per: Over a clip, a cost per `frame` is averaged and one per `network` summed.
        section: The section of `search` that this quantity needs, if any.
    """

    name: str
    unit: str
    scale: float
    display: str
    exact: str
    label: str
    per: Literal["frame", "network"] = "frame"
    section: str | None = None

    def shown(self, value: float) -> str:
        """Format a value without its unit."""
        return format(value / self.scale, self.display)


QUANTITIES: dict[str, Quantity] = {
    quantity.name: quantity
    for quantity in (
        Quantity("macs", "MMACs", 1e6, ",.2f", ",.0f", "MMACs"),
        Quantity("params", "M parameters", 1e6, ",.3f", ",.0f", "M parameters", per="network"),
        Quantity("latency_ms", "ms", 1.0, ",.2f", ",.3f", "latency, ms", section="latency"),
    )
}


# What an architecture computes, and the time that this takes on a device.
MACS, LATENCY = QUANTITIES["macs"], QUANTITIES["latency_ms"]


@dataclass(frozen=True)
class Cost(Strict):
    """The cost of a network for one image.

    Attributes:
        macs: Multiply-accumulates.
        params: Parameters.
        latency_ms: Milliseconds on the device of a latency table; None without a table.
        others: All other quantities by name; in JSON they are keys like those above.
    """

    macs: int
    params: int
    latency_ms: float | None = None
    others: Mapping[str, float] = field(default_factory=dict, hash=False)

    def get(self, name: str) -> float | None:
        """Return a quantity by name, or None where it is unknown."""
        value: float | None = getattr(self, name) if name in _OWN else self.others.get(name)
        return value

    def value(self, name: str) -> float:
        """Return a quantity by name.

        Raises:
            UserError: If the quantity is unknown.
        """
        value = self.get(name)
        if value is None:
            section = QUANTITIES[name].section
            hint = f"give search.{section}" if section else ""
            raise UserError(name, "a known cost", "none", hint)
        return value

    def with_values(self, **values: float) -> Cost:
        """Return a copy with these quantities."""
        own: dict[str, Any] = {name: value for name, value in values.items() if name in _OWN}
        others = {name: value for name, value in values.items() if name not in _OWN}
        return replace(self, **own, others={**self.others, **others})

    def zero(self) -> Cost:
        """Return zero of the quantities that are known here."""
        latency_ms = None if self.latency_ms is None else 0.0
        return Cost(0, 0, latency_ms, dict.fromkeys(self.others, 0.0))

    def __str__(self) -> str:
        return ", ".join(
            f"{quantity.shown(value)} {quantity.unit}"
            for name, quantity in QUANTITIES.items()
            if (value := self.get(name)) is not None
        )

    @model_serializer(mode="wrap")
    def _flat(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = handler(self)
        others = plain.pop("others", {})
        return {**plain, **others}

    @model_validator(mode="before")
    @classmethod
    def _unflat(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        others = {name: raw[name] for name in raw if name in QUANTITIES and name not in _OWN}
        own = {name: value for name, value in raw.items() if name not in others}
        return {**own, "others": others} if others else own


_OWN = {one.name for one in fields(Cost)} - {"others"}


def cost_of_clip(frames: Sequence[Cost], networks: Sequence[Cost]) -> Cost:
    """Return the mean cost of a frame.

    A quantity that any of them lacks is unknown.

    Args:
        frames: The costs of all frames.
        networks: The costs of all distinct networks.
    """
    values: dict[str, float] = {}
    for name, quantity in QUANTITIES.items():
        per_frame = quantity.per == "frame"
        costs = frames if per_frame else networks
        known = [value for cost in costs if (value := cost.get(name)) is not None]
        if len(known) == len(costs):
            values[name] = sum(known) / (len(costs) if per_frame else 1)
    macs, params = (round(values.pop(name)) for name in ("macs", "params"))
    return Cost(macs, params).with_values(**values)


@dataclass(frozen=True)
class Constraint(Strict):
    """A hard range of one quantity, both bounds included.

    Attributes:
        quantity: The name of a quantity, such as `macs`, `params` or `latency_ms`.
        at_most: The largest value.
        at_least: The smallest value.
    """

    quantity: str
    at_most: Annotated[float, AllowInfNan(True)]
    at_least: float = 0

    def __post_init__(self) -> None:
        check_known(self.quantity, QUANTITIES, "quantity")
        if not self.at_least <= self.at_most:  # rejects NaN too
            found = f"at_least {self.at_least:g} and at_most {self.at_most:g}"
            raise UserError(self.quantity, "at_least not above at_most", found)

    @property
    def bounds(self) -> dict[str, float]:
        """The finite bounds above 0, by the names of their fields."""
        bounds = {"at_least": self.at_least, "at_most": self.at_most}
        return {name: bound for name, bound in bounds.items() if 0 < bound < math.inf}

    def value(self, cost: Cost) -> float:
        """Return the constrained quantity; raises UserError if it is unknown."""
        return cost.value(self.quantity)

    def excess(self, cost: Cost) -> float:
        """Return how far the cost is outside the range: above 0 too much, below 0 too little."""
        value = self.value(cost)
        return max(0.0, value - self.at_most) or min(0.0, value - self.at_least)

    def format(self, value: float) -> str:
        """Format a value of the constrained quantity in its own unit."""
        return format(value, QUANTITIES[self.quantity].exact)

    def __str__(self) -> str:
        return f"{self.quantity} {self.format(self.at_least)} to {self.format(self.at_most)}"


# `SCORE` or the name of a quantity.
Objective: TypeAlias = str
DEFAULT_OBJECTIVES = (SCORE, MACS.name)


def check_objectives(objectives: Sequence[Objective]) -> None:
    """Raise UserError unless all are known, each is given once, and the score is among them."""
    known = {SCORE, *QUANTITIES}
    if SCORE not in objectives or len(set(objectives)) < len(objectives) or {*objectives} - known:
        expected = f"{SCORE} and any of {', '.join(QUANTITIES)}, each once"
        raise UserError("objectives", expected, str(list(objectives)))


def costs_among(objectives: Sequence[Objective]) -> list[Quantity]:
    """Return the quantities among the objectives, in order."""
    return [QUANTITIES[name] for name in objectives if name != SCORE]


def known_quantities(rows: Sequence[Mapping[str, Any]]) -> list[Quantity]:
    """Return the quantities that every row of a table has a value for."""
    return [
        quantity
        for name, quantity in QUANTITIES.items()
        if all(row.get(name) is not None for row in rows)
    ]


def header_cells(quantities: Sequence[Quantity], width: int = 12) -> str:
    """Return the units as right-aligned cells, the header of `value_cells`."""
    return " ".join(f"{quantity.unit:>{width}}" for quantity in quantities)


def value_cells(quantities: Sequence[Quantity], row: Mapping[str, Any], width: int = 12) -> str:
    """Return the displayed values of a row as right-aligned cells."""
    return " ".join(f"{quantity.shown(row[quantity.name]):>{width}}" for quantity in quantities)
