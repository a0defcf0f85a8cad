"""The last section: all that is needed to make the results again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta

from vipnas.report.blocks import UNKNOWN, Block, Code, Folded, Section, Table, Text
from vipnas.report.runs import LevelRun


def reproduction(runs: Sequence[LevelRun]) -> Section:
    """Return the section: versions, seeds, threads, digests of the data, seconds, settings."""
    facts = [dict(_facts(run)) for run in runs]
    names = {name: None for found in facts for name in found}
    rows = [[name, *(found.get(name, UNKNOWN) for found in facts)] for name in names]
    blocks: list[Block] = [Table(["", *(run.name for run in runs)], rows, is_text=True)]
    for run in runs:
        if run.settings:
            settings = json.dumps(run.settings, indent=1, sort_keys=True)
            blocks.append(Folded(f"Settings of the search of {run.name}", [Code("", settings)]))
    if any(run.header is None for run in runs):
        blocks.append(Text("Versions and data digests come with the retrained network."))
    lead = "Equal settings, versions and threads give equal results on one kind of processor."
    return Section("reproduction", "Reproduce it", lead, blocks)


def _facts(run: LevelRun) -> Iterator[tuple[str, str]]:
    """Yield names and values, those that are known."""
    yield "folder", str(run.root)
    settings, search = run.settings, run.search_settings
    known = {
        "seed": settings.get("seed"),
        "device of the search": settings.get("device"),
        "searcher": search.get("searcher"),
        "trials": len(run.searched) or None,
        "objectives": ", ".join(run.objectives),
        "budgets": ", ".join(
            f"{limit.quantity} {name.replace('_', ' ')} {bound:,.10g}"
            for limit in search.get("constraints", ())
            for name, bound in limit.bounds.items()
        ),
    }
    yield from ((name, str(value)) for name, value in known.items() if value not in (None, ""))
    if run.header is not None:
        origin = run.header.provenance
        plain = {
            "experiment": origin.experiment,
            "vipnas": origin.vipnas,
            "commit": origin.commit,
            "torch": origin.torch,
            "threads of the retraining": origin.threads,
            **{f"data, {name}": digest for name, digest in origin.data.items()},
        }
        yield from ((name, str(value)) for name, value in plain.items() if value is not None)
    for stage in (run.supernet, run.retrain):
        record = run.made_with(stage)
        if record is not None:
            yield f"digest of {stage.name}", str(record["result"])
            threads = record.get("threads")
            yield f"threads of {stage.name}", UNKNOWN if threads is None else str(threads)
    for stage_name, seconds in run.seconds.items():
        yield f"time of {stage_name}", str(timedelta(seconds=round(seconds)))
