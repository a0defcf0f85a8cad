"""The page of one run or several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vipnas.errors import UserError, shown
from vipnas.files import parse, read_json
from vipnas.pipeline.run_folder import RunFolder
from vipnas.report.documents import Metrics
from vipnas.report.page import write_report
from vipnas.report.runs import AnyArch, LevelRun


def report(
    folders: Sequence[RunFolder],
    output: Path | None = None,
    beside: Mapping[str, AnyArch] | None = None,
    other_metrics: Sequence[Path] = (),
) -> Path:
    """Write the page of runs, both levels of each.

    Args:
        folders: The folders of the runs.
        output: The HTML file; by default `report.html` in the first folder.
        beside: Architectures that are drawn beside those found, by name.
        other_metrics: Files with what `vipnas evaluate --json` printed for other models. The page
            names each by its file.

    Raises:
        UserError: If a folder is none of a run.
    """
    documents = {path.stem: _metrics_in(path) for path in other_metrics}
    levels = [
        replace(run, beside=beside or {}, other_metrics=_of_level(documents, run.is_clip))
        for run in levels_of(folders)
    ]
    path = output or folders[0].root / "report.html"
    write_report(path, ", ".join({run.name: None for run in levels}), levels)
    return path


def _metrics_in(path: Path) -> Metrics:
    document = read_json(path)
    if not isinstance(document, dict) or not document.keys() & {"coco", "posetrack"}:
        expected = "metrics with the key coco or posetrack"
        raise UserError(str(path), expected, shown(document), "as `vipnas evaluate --json` prints")
    return parse(Metrics, document, str(path))


def _of_level(documents: Mapping[str, Metrics], is_clip: bool) -> dict[str, Metrics]:
    """Return the metrics of a level: those of clips have PoseTrack's."""
    return {name: found for name, found in documents.items() if ("posetrack" in found) == is_clip}


def levels_of(folders: Sequence[RunFolder]) -> list[LevelRun]:
    """Return all levels that runs have; equal names of folders are told apart by their paths."""
    names = Counter(folder.root.resolve().name for folder in folders)
    found = []
    for folder in folders:
        name = folder.root.resolve().name
        if names[name] > 1:
            name = str(folder.root)
        found += list(_levels(folder, name if folder.name is None else f"{name} {folder.name}"))
    return found


def _levels(folder: RunFolder, name: str) -> Iterator[LevelRun]:
    levels = {False: folder, True: folder.clips}
    known = {
        is_clip: level
        for is_clip, level in levels.items()
        if any(stage.is_dir() for stage in (level.supernet, level.search, level.retrain))
    }
    if not known:
        hint = "a run has the folders supernet, search or retrain"
        raise UserError(str(folder.root), "the folder of a run", "another folder", hint)
    for is_clip, level in known.items():
        run = LevelRun(name, is_clip, level.root, level.supernet, level.search, level.retrain)
        yield replace(run, latency_table=_latency_table(run))


def _latency_table(run: LevelRun) -> Path | None:
    """Return the table of a search by milliseconds, if its file is where the experiment says."""
    latency = run.search_settings.get("latency")
    table = None if latency is None else Path(latency["table"])
    return table if table is not None and table.is_file() else None
