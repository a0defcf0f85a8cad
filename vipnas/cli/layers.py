"""The table of `vipnas cost --table`: a network layer by layer."""

from __future__ import annotations

from vipnas.arch.image import Arch
from vipnas.models.counting import count_cost, layer_costs

HEADER = ("layer", "kind", "output", "MACs", "params")


def layer_table(arch: Arch) -> str:
    """Return a table with a row per layer, in the order they run, and a row of totals.

    Columns: name, kind, output shape (channels x height x width), MACs of one image, parameters.
    """
    rows = [HEADER]
    for layer, cost in layer_costs(arch):
        output = " x ".join(map(str, cost.output_chw))
        rows.append((layer.name, layer.kind.__name__, output, f"{cost.macs:,}", f"{cost.params:,}"))
    total = count_cost(arch)
    rows.append(("total", "", "", f"{total.macs:,}", f"{total.params:,}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        f"{name:<{widths[0]}}  {kind:<{widths[1]}}  {output:>{widths[2]}}"
        f"  {macs:>{widths[3]}}  {params:>{widths[4]}}"
        for name, kind, output, macs, params in rows
    )
