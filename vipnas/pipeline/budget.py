"""A budget in the words of a user: `25 fps`, `40 ms`, `100 MMACs`, `1 GMACs`, `3 Mparams`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vipnas.errors import UserError, shown
from vipnas.quantities import LATENCY, MACS, QUANTITIES
from vipnas.runtimes.table import DEFAULT_RUNTIME

PREFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}


@dataclass(frozen=True)
class Budget:
    """What a network may cost.

    Attributes:
        quantity: The name of the quantity that is limited.
        at_most: The limit.
        text: The budget as the user wrote it.
        runtime: What time is measured in.
        threads: With how many threads.
    """

    quantity: str
    at_most: float
    text: str
    runtime: str = DEFAULT_RUNTIME
    threads: int = 1

    def __str__(self) -> str:
        if not self.is_time:
            return self.text
        return f"{self.text} on {self.threads} thread(s) of {self.runtime}"

    @property
    def is_time(self) -> bool:
        return self.quantity == LATENCY.name

    @property
    def counted(self) -> str:
        """The quantity that a first search limits: computation for time, as no table exists yet."""
        return MACS.name if self.is_time else self.quantity

    def counted_limit(self, macs: float) -> float:
        """Return the limit of `counted`; a time is worth `macs`."""
        return macs if self.is_time else self.at_most

    @property
    def remark(self) -> str:
        """A comment for the constraint in the experiment."""
        if not self.is_time:
            return ""
        return f"  # {self}, measured on a few networks; exactly: vipnas profile"


def parse_budget(text: str, runtime: str = DEFAULT_RUNTIME, threads: int = 1) -> Budget:
    """Parse a budget.

    Raises:
        UserError: It is no positive number with a known unit.
    """
    units = {
        f"{prefix}{name}": (name, factor)
        for name, quantity in QUANTITIES.items()
        if quantity.section is None
        for prefix, factor in PREFIXES.items()
    }
    units[LATENCY.unit] = (LATENCY.name, 1.0)
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]+)\s*", text)
    value, unit = (float(found.group(1)), found.group(2).lower()) if found else (0.0, "")
    if value > 0 and unit == "fps":
        return Budget(LATENCY.name, 1e3 / value, text.strip(), runtime, threads)
    if not value > 0 or unit not in units:
        expected = "a number above 0 and a unit: fps, ms, MMACs, GMACs, kparams or Mparams"
        raise UserError("--budget", expected, shown(text), "such as '25 fps'")
    quantity, factor = units[unit]
    return Budget(quantity, value * factor, text.strip(), runtime, threads)
