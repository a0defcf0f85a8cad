"""Train all archs of a front, one after the other or side by side."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vipnas.arch.image import Arch
from vipnas.arch.io import write_arch
from vipnas.files import parse, read_json, to_plain, write_atomically
from vipnas.memory import keep_freed_memory
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.retrain import digest_of, initial_weights, read_metrics, retrain
from vipnas.pipeline.work import at_work
from vipnas.search.asha import Report, run_all
from vipnas.search.parallel import RaySettings
from vipnas.search.trial import Trial
from vipnas.settings import check_settings

# As the monitor names it.
AP = "ap/network"


def retrain_front(
    experiment: Experiment,
    front_file: Path,
    init_from: Path | None = None,
    ray: RaySettings | None = None,
) -> Path:
    """Train every arch of a `pareto.json` as `retrain` trains one, each in `retrain/front_NUMBER`
    with its `arch.json`, and print a table, which `retrain/front.json` keeps.

    With `ray` they run side by side, and those whose AP on the search's people falls behind are
    stopped early (`vipnas.search.asha`). After a kill the same command goes on, each training from
    its own checkpoint. Raises ValueError for a file that is no front.
    """
    front = _read_front(front_file)
    directory = experiment.folder.retrain
    with at_work(experiment, directory):
        rows = _rows(experiment, front, front_file, init_from, ray)
    _print(rows)
    return directory / "front.json"


def _rows(
    experiment: Experiment,
    front: list[Trial],
    front_file: Path,
    init_from: Path | None,
    ray: RaySettings | None,
) -> list[dict[str, Any]]:
    """The rows of `front.json`, which is written unless it is done."""
    directory = experiment.folder.retrain
    target = directory / "front.json"
    made_with: dict[str, Any] = {
        "front": [to_plain(trial) for trial in front],
        "settings": {
            **experiment.training_settings(),
            "retrain": to_plain(experiment.config.retrain),
            "init_from": digest_of(initial_weights(experiment, init_from)),
        },
        "scoring": experiment.scoring_settings(),
    }
    if target.exists():
        found = read_json(target)
        if found["front"] == made_with["front"]:
            check_settings(found["settings"], made_with["settings"], target)
        if all(found[key] == made_with[key] for key in made_with):
            print(f"retrain: done already; {target}")
            rows: list[dict[str, Any]] = found["rows"]
            return rows
    if ray is not None and experiment.config.monitoring.probe_epochs is None:
        raise ValueError(
            "monitoring: found probe_epochs null; trainings are stopped by their probes"
        )
    for number, trial in enumerate(front):
        assert isinstance(trial.arch, Arch)
        found = {"front": str(front_file), "score": trial.score, **to_plain(trial.cost)}
        write_arch(_arch_file(directory, number), trial.arch, **found)
    # Read here, so that data which has to be drawn is not drawn by several at once.
    _ = experiment.train_data, experiment.test_data
    names = [str(number) for number in range(len(front))]
    if ray is None:
        for name in names:
            _train(experiment, directory, init_from, None, name, None)
    else:
        threads = max(1, (os.cpu_count() or 1) // ray.num_workers)
        absolute = replace(
            experiment,
            output=experiment.output.resolve(),
            data_root=experiment.data_root.resolve(),
            device=torch.device(experiment.device.type),  # Ray numbers a worker's GPUs anew
        )
        run = partial(_train, absolute, directory.resolve(), init_from, threads)
        run_all(run, names, replace(ray, threads=threads), directory)
    rows = [_row(directory, number, trial) for number, trial in enumerate(front)]
    write_atomically(target, json.dumps({**made_with, "rows": rows}, indent=1) + "\n")
    return rows


def _read_front(path: Path) -> list[Trial]:
    document = read_json(path)
    if not isinstance(document, list) or not document:
        raise ValueError(f"{path}: found no list of trials; allowed is a pareto.json")
    front = [parse(Trial, entry, f"{path}: trial {n}") for n, entry in enumerate(document)]
    for number, trial in enumerate(front):
        if not isinstance(trial.arch, Arch):
            raise ValueError(f"{path}: trial {number}: found networks of a clip, allowed is one")
    return front


def _arch_file(directory: Path, number: int | str) -> Path:
    return directory / f"front_{number}" / "arch.json"


def _train(
    experiment: Experiment,
    directory: Path,
    init_from: Path | None,
    threads: int | None,
    number: str,
    report: Report | None,
) -> None:
    """One arch of the front, here or in a worker."""
    if threads is not None:
        keep_freed_memory()
        torch.set_num_threads(threads)
    arch_file = _arch_file(directory, number)
    folder = arch_file.parent
    if report is None:
        retrain(experiment, arch_file, init_from, folder)
        return
    num_steps = experiment.config.retrain.schedule.num_steps(len(experiment.training_crops))
    reporter = Reporter(folder / "metrics.jsonl", num_steps, report)
    reporter.after_step()  # what there was before a kill
    retrain(experiment, arch_file, init_from, folder, [reporter])


@dataclass
class Reporter:
    """A callback that reports the AP on the search's people, as the monitor has written it down,
    each once; not that of the last step, where there is nothing left to stop."""

    lines: Path
    num_steps: int
    report: Report
    reported_step: int = 0

    def after_step(self, *_: object) -> None:
        if not self.lines.exists():
            return
        # Torn by a kill, the last line is written again by the training that goes on.
        for line in self.lines.read_text().split("\n")[:-1]:
            found = json.loads(line)
            new = self.reported_step < found["step"] < self.num_steps
            if new and found.get(AP) is not None:
                self.reported_step = found["step"]
                self.report(found["step"] / self.num_steps, found[AP])


def _row(directory: Path, number: int, trial: Trial) -> dict[str, Any]:
    folder = _arch_file(directory, number).parent
    metrics = folder / "metrics.json"
    figures = to_plain(read_metrics(metrics)) if metrics.exists() else None
    cost = to_plain(trial.cost)
    return {"folder": folder.name, **cost, "score": trial.score, "retrained": figures}


def _print(rows: list[dict[str, Any]]) -> None:
    print(f"\n{'':10} {'MMACs':>9} {'params':>10} {'score':>10} {'AP on the test set':>20}")
    for row in rows:
        figures = row["retrained"]
        ap = "stopped early" if figures is None else f"{figures['ap']:.3f}"
        print(
            f"{row['folder']:10} {row['macs'] / 1e6:9.2f} {row['params']:10,}"
            f" {row['score']:10.3f} {ap:>20}"
        )
