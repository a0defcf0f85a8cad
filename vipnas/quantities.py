"""What is measured of an architecture: frozen records, in and out of JSON. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from pydantic import AllowInfNan

from vipnas.files import Strict


@dataclass(frozen=True)
class Cost(Strict):
    """What a network costs for one image: multiply-accumulates, parameters, and milliseconds on the
    device that a latency table is of (None without a table)."""

    macs: int
    params: int
    latency_ms: float | None = None

    def __str__(self) -> str:
        counted = f"{self.macs / 1e6:,.1f} MMACs, {self.params / 1e6:.3f} M parameters"
        return counted if self.latency_ms is None else f"{counted}, {self.latency_ms:.2f} ms"


Quantity: TypeAlias = Literal["macs", "params", "latency_ms"]


@dataclass(frozen=True)
class Constraint(Strict):
    """A hard range of one quantity of `Cost`, both ends allowed; `at_most` may be infinite."""

    quantity: Quantity
    at_most: Annotated[float, AllowInfNan(True)]
    at_least: float = 0

    def __post_init__(self) -> None:
        if not self.at_least <= self.at_most:  # not-a-number neither
            raise ValueError(
                f"{self.quantity}: found at_least {self.at_least:g} and at_most {self.at_most:g},"
                " allowed are numbers with at_least not above at_most"
            )

    def value(self, cost: Cost) -> float:
        """Raises ValueError where no latency is known."""
        value: float | None = getattr(cost, self.quantity)
        if value is None:
            raise ValueError(
                f"constraint {self.quantity}: the costs of this search hold none; name a latency"
                " table"
            )
        return value

    def excess(self, cost: Cost) -> float:
        """How far outside the range, in its unit: above 0 too much, below 0 too little."""
        value = self.value(cost)
        return max(0.0, value - self.at_most) or min(0.0, value - self.at_least)

    def format(self, value: float) -> str:
        return f"{value:,.3f}" if self.quantity == "latency_ms" else f"{value:,.0f}"

    def __str__(self) -> str:
        return f"{self.quantity} {self.format(self.at_least)} to {self.format(self.at_most)}"


Objective = Literal["score", "macs", "params", "latency_ms"]


def check_objectives(objectives: Sequence[Objective]) -> None:
    """Raises ValueError unless the score is among them and none stands there twice."""
    if "score" not in objectives or len(set(objectives)) < len(objectives):
        raise ValueError(
            f"objectives: found {list(objectives)}, allowed are score and any of macs, params,"
            " latency_ms, each once"
        )
