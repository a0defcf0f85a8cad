"""The rows of a study: an experiment with some settings changed, trained and scored.

See `gains.py` beside this file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from vipnas.arch.io import read_arch, write_arch
from vipnas.files import Strict, read_yaml, write_atomically
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.image_level import ImageLevel
from vipnas.pipeline.models import open_network
from vipnas.pipeline.retrain import retrain
from vipnas.pipeline.search import search
from vipnas.pipeline.supernet import train_supernet
from vipnas.shipped import find_beside, find_shipped


@dataclass(frozen=True)
class RowSettings(Strict):
    """A row: what it changes, and the row whose network and changes it has besides.

    With an `input_hw` of its own, that network has this size. Without such a row it finds a network
    of its own. A row of a supernet ends with it, for other rows to start from.
    """

    changes: dict[str, Any] = field(default_factory=dict)
    arch_of: str | None = None
    only_supernet: bool = False


@dataclass(frozen=True)
class Study(Strict):
    """An experiment, as YAML beside the study, and the rows, the first of which is the reference.

    `{work}` in a text of a change is the folder of the study's runs.
    """

    experiment: str
    rows: dict[str, RowSettings]
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Row:
    """A row of a study in a folder."""

    study: Study
    name: str
    base: Path
    work: Path
    data_root: Path

    @property
    def own(self) -> RowSettings:
        return self.study.rows[self.name]

    @property
    def _arch_row(self) -> Row | None:
        return None if self.own.arch_of is None else replace(self, name=self.own.arch_of)

    def settings(self) -> Any:
        """Return the settings of the row's experiment."""
        before = self._arch_row.settings() if self._arch_row else read_yaml(self.base)
        return _changed(before, _filled(self.own.changes, str(self.work)))

    def experiment(self, seed: int | None = None) -> Experiment:
        """Return the experiment of the row; with a seed, that of a training by itself."""
        file = self.work / f"{self.name}.yaml"
        plain = self.settings()
        # A whole path: rows may be called as spaces are, and their files are beside each other.
        space = find_beside(self.base, plain["space"])
        space = space or find_shipped("search_spaces", plain["space"], ".yaml")
        plain["space"] = str(space.resolve())
        write_atomically(file, yaml.safe_dump(plain, sort_keys=False))
        output = self.work / (self.name if seed is None else f"{self.name}_{seed}")
        opened = Experiment.open(file, output, self.data_root, torch.device("cpu"))
        if seed is None:
            return opened
        return replace(opened, config=replace(opened.config, seed=seed))

    def arch_file(self) -> Path:
        """Return the file of the network, which is searched for unless that is done."""
        of_row, resized = self._arch_row, "input_hw" in self.own.changes
        if of_row is not None and not resized:
            return of_row.arch_file()
        experiment = self.experiment()
        space, file = experiment.space, experiment.output / "arch.json"
        if of_row is not None:
            own_hw = space.max_arch().input_hw
            write_arch(file, replace(read_arch(of_row.arch_file()), input_hw=own_hw))
            return file
        if space.max_arch() == space.min_arch():
            write_arch(file, space.max_arch())
            return file
        level = ImageLevel(experiment)
        train_supernet(level)
        return search(level)

    def results_file(self, seed: int) -> Path:
        return self.work / f"{self.name}_{seed}" / "results.json"

    @property
    def done_seeds(self) -> list[int]:
        return [seed for seed in self.study.seeds if self.results_file(seed).exists()]

    def make(self, seed: int) -> None:
        """Train and score the network, or train the supernet, unless that is done."""
        if self.own.only_supernet:
            train_supernet(ImageLevel(self.experiment()))
            return
        file = self.results_file(seed)
        if file.exists():
            return
        arch_file = self.arch_file()
        experiment = self.experiment(seed)
        network = open_network(experiment, retrain(ImageLevel(experiment), arch_file))
        evaluator = experiment.at(network.arch).evaluator("val")
        xy_px, scores = evaluator.predict(network)
        schedule = experiment.config.retrain.schedule
        found = {
            "arch": network.arch.to_json(),
            "steps": schedule.num_steps(len(experiment.train_data.persons)),
            "oks": evaluator.score(xy_px, scores),
            "results": evaluator.results_of(xy_px, scores),
        }
        write_atomically(file, json.dumps(found) + "\n")


def _changed(plain: Any, changes: Mapping[str, Any]) -> Any:
    """Return settings with some replaced, section by section."""
    return plain | {
        key: _changed(plain.get(key) or {}, value) if isinstance(value, Mapping) else value
        for key, value in changes.items()
    }


def _filled(value: Any, work: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _filled(item, work) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, work) for item in value]
    return value.replace("{work}", work) if isinstance(value, str) else value
