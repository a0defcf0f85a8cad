"""Train all architectures of a front, one after the other or in parallel."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vipnas.arch.io import write_arch
from vipnas.errors import UserError, shown
from vipnas.files import parse, read_json, to_plain, write_atomically
from vipnas.memory import keep_freed_memory
from vipnas.pipeline.level import Level
from vipnas.pipeline.retrain import retrain
from vipnas.pipeline.work import at_work
from vipnas.quantities import header_cells, known_quantities, value_cells
from vipnas.search.asha import Report, run_all
from vipnas.search.ray_cluster import RaySettings
from vipnas.search.trial import Trial
from vipnas.settings import check_settings, content_digest
from vipnas.threads import usable_cores
from vipnas.training.loop import Outcome, Training

# The monitor's name of the AP.
AP = "ap/network"


def retrain_front(
    level: Level[Any],
    front_file: Path,
    init_from: Path | None = None,
    ray: RaySettings | None = None,
) -> Path:
    """Train every architecture of a `pareto.json` as `retrain` trains one.

    Each trains in `retrain/front_NUMBER`, with its `arch.json`; a table is printed and kept in
    `retrain/front.json`. With `ray` they run in parallel, and those with a low validation AP are
    stopped early (`vipnas.search.asha`). After a kill the same command resumes, each training from
    its own checkpoint.

    Raises:
        UserError: If the file is no front.
    """
    front = _read_front(level, front_file)
    directory = level.folder.retrain
    with at_work(level.experiment, directory):
        rows = _rows(level, front, front_file, init_from, ray)
    _print(rows)
    return directory / "front.json"


def _rows(
    level: Level[Any],
    front: list[Trial],
    front_file: Path,
    init_from: Path | None,
    ray: RaySettings | None,
) -> list[dict[str, Any]]:
    """Return the rows of `front.json`, which is written unless it is done."""
    experiment, directory = level.experiment, level.folder.retrain
    target = directory / "front.json"
    made_with = _made_with(level, front, init_from)
    if target.exists():
        found = read_json(target)
        if found["front"] == made_with["front"]:
            check_settings(found["settings"], made_with["settings"], target)
        if all(found[key] == made_with[key] for key in made_with):
            print(f"retrain: done already; {target}")
            rows: list[dict[str, Any]] = found["rows"]
            return rows
    if ray is not None and experiment.config.monitoring.probe_epochs is None:
        hint = "probes decide which trainings are stopped"
        raise UserError("monitoring.probe_epochs", "a number of epochs", "null", hint)
    for number, trial in enumerate(front):
        found = {"front": str(front_file), "score": trial.score, **to_plain(trial.cost)}
        write_arch(_arch_file(directory, number), trial.arch, **found)
    # Read here, so that workers do not synthesize the same data in parallel.
    _ = experiment.train_data, experiment.test_data
    _train_all(level, directory, init_from, [str(number) for number in range(len(front))], ray)
    rows = [_row(directory, number, trial) for number, trial in enumerate(front)]
    write_atomically(target, json.dumps({**made_with, "rows": rows}, indent=1) + "\n")
    return rows


def _made_with(level: Level[Any], front: Sequence[Trial], init_from: Path | None) -> dict[str, Any]:
    start = level.initial_weights(init_from)
    return {
        "front": [to_plain(trial) for trial in front],
        "settings": {
            **level.settings(),
            **level.teacher_settings("retrain"),
            "retrain": to_plain(level.retrain_schedule),
            "init_from": None if start is None else content_digest(start),
        },
        "scoring": level.experiment.scoring_settings() | level.scoring_settings(),
    }


def _train_all(
    level: Level[Any],
    directory: Path,
    init_from: Path | None,
    names: Sequence[str],
    ray: RaySettings | None,
) -> None:
    """Train the architectures of the front, in this process or by Ray."""
    if ray is None:
        for name in names:
            _train(level, directory, init_from, None, name, None)
        return
    experiment, threads = level.experiment, max(1, usable_cores() // ray.num_workers)
    absolute = replace(
        experiment,
        output=experiment.output.resolve(),
        data_root=experiment.data_root.resolve(),
        device=torch.device(experiment.device.type),  # Ray renumbers a worker's GPUs
    )
    level = replace(level, experiment=absolute)
    run = partial(_train, level, directory.resolve(), init_from, threads)
    run_all(run, names, replace(ray, threads=threads), directory)


def _read_front(level: Level[Any], path: Path) -> list[Trial]:
    document = read_json(path)
    if not isinstance(document, list) or not document:
        raise UserError(str(path), "a list of trials, as in pareto.json", shown(document))
    front = [parse(Trial, entry, f"{path}: trial {n}") for n, entry in enumerate(document)]
    for number, trial in enumerate(front):
        level.space.check_arch(trial.arch, f"{path}: trial {number}")
    return front


def _arch_file(directory: Path, number: int | str) -> Path:
    return directory / f"front_{number}" / "arch.json"


def _train(
    level: Level[Any],
    directory: Path,
    init_from: Path | None,
    threads: int | None,
    number: str,
    report: Report | None,
) -> None:
    """Train one architecture of the front, in this process or in a worker."""
    if threads is not None:
        keep_freed_memory()
        torch.set_num_threads(threads)
    arch_file = _arch_file(directory, number)
    folder = arch_file.parent
    if report is None:
        retrain(level, arch_file, init_from, folder)
        return
    reporter = Reporter(folder / "metrics.jsonl", report)
    retrain(level, arch_file, init_from, folder, [reporter])


@dataclass
class Reporter:
    """A callback that reports each validation AP that the monitor writes, once.

    That of the last step is not reported: there is nothing left to stop.
    """

    lines: Path
    report: Report
    reported_step: int = 0
    num_read: int = 0

    def after_step(self, training: Training, outcome: Outcome) -> None:
        """Read the lines added since the last call, complete ones only.

        After a kill, the first call reads those from before it.
        """
        size = self.lines.stat().st_size if self.lines.exists() else 0
        if size < self.num_read:  # a training that resumes drops the lines it will write again
            self.num_read = 0
        if size == self.num_read:
            return
        with self.lines.open("rb") as file:
            file.seek(self.num_read)
            # Torn by a kill, the last line is written again by the training that resumes.
            whole, newline, _torn = file.read().rpartition(b"\n")
        self.num_read += len(whole) + len(newline)
        for line in whole.splitlines():
            found = json.loads(line)
            new = self.reported_step < found["step"] < training.num_steps
            if new and found.get(AP) is not None:
                self.reported_step = found["step"]
                self.report(found["step"] / training.num_steps, found[AP])


def _row(directory: Path, number: int, trial: Trial) -> dict[str, Any]:
    folder = _arch_file(directory, number).parent
    metrics = folder / "metrics.json"
    retrained = coco_metrics_of(read_json(metrics)) if metrics.exists() else None
    cost = to_plain(trial.cost)
    return {"folder": folder.name, **cost, "score": trial.score, "retrained": retrained}


def coco_metrics_of(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return the COCO metrics of a `metrics.json` of either level."""
    found: dict[str, Any] = metrics.get("coco", metrics)
    return {name: value for name, value in found.items() if name not in ("settings", "threads")}


def _print(rows: list[dict[str, Any]]) -> None:
    costs = known_quantities(rows)
    print(f"\n{'':10} {header_cells(costs)} {'score':>10} {'AP on the test set':>20}")
    for row in rows:
        retrained = row["retrained"]
        ap = "stopped early" if retrained is None else f"{retrained['ap']:.3f}"
        print(f"{row['folder']:10} {value_cells(costs, row)} {row['score']:10.3f} {ap:>20}")
