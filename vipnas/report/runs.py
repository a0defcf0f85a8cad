"""The results of a run, read from the files that its stages left. Any of them may be missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from vipnas.arch.clip import VideoArch
from vipnas.arch.image import Arch
from vipnas.arch.io import read_arch
from vipnas.files import parse
from vipnas.models.file import read_header
from vipnas.models.header import ModelHeader
from vipnas.quantities import DEFAULT_OBJECTIVES, QUANTITIES, Quantity
from vipnas.report.documents import (
    Best,
    Details,
    Front,
    FrontRow,
    Metrics,
    Record,
    SearchSettings,
    Summary,
    read_curves,
    read_document,
)
from vipnas.search.journal import read_journal
from vipnas.search.pareto import pareto_front
from vipnas.search.trial import Trial
from vipnas.shipped import shipped_files
from vipnas.space.yaml import parse_space

AnyArch: TypeAlias = Arch | VideoArch
RANDOM_SEARCH, REFERENCES = "random", "reference"
REFERENCE_NAMES = ("largest", "smallest")


@dataclass(frozen=True)
class LevelRun:
    """The results of one level of a run: of images, or of clips.

    Attributes:
        name: How the page names the run.
        is_clip: Whether it is the temporal level.
        root: The folder of the level.
        supernet: The folder of the supernet.
        search: The folder of the search.
        retrain: The folder of the retrained network.
        latency_table: The latency table of the search, where it was searched by milliseconds.
        beside: Other architectures to draw beside the one found, by name.
        other_metrics: Metrics of other models on the test split, as `vipnas evaluate --json` prints
            them, by name.
    """

    name: str
    is_clip: bool
    root: Path
    supernet: Path
    search: Path
    retrain: Path
    latency_table: Path | None = None
    beside: Mapping[str, AnyArch] = field(default_factory=dict)
    other_metrics: Mapping[str, Metrics] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """The prefix of the commands of this level."""
        return "vipnas video" if self.is_clip else "vipnas"

    @cached_property
    def _journal(self) -> tuple[dict[str, Any], list[Trial]]:
        path = self.search / "trials.jsonl"
        return read_journal(path) if path.is_file() else ({}, [])

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the search; empty if there was none."""
        return self._journal[0]

    @cached_property
    def search_settings(self) -> SearchSettings:
        place = f"{self.search / 'trials.jsonl'}: line 1: settings: search"
        return parse(SearchSettings, self.settings.get("search", {}), place)

    @property
    def method(self) -> str:
        """The name of the searcher."""
        return str(self.search_settings.get("searcher", "search"))

    @property
    def objectives(self) -> tuple[str, ...]:
        return tuple(self.search_settings.get("objectives", DEFAULT_OBJECTIVES))

    def trials_of(self, method: str) -> list[Trial]:
        """Return the trials of one method, by number."""
        found = (trial for trial in self._journal[1] if trial.method == method)
        return sorted(found, key=lambda trial: trial.number)

    @cached_property
    def searched(self) -> list[Trial]:
        """The trials of the searcher."""
        return self.trials_of(self.method)

    @cached_property
    def randoms(self) -> list[Trial]:
        """The trials of random search."""
        return [] if self.method == RANDOM_SEARCH else self.trials_of(RANDOM_SEARCH)

    @cached_property
    def references(self) -> dict[str, Trial]:
        """The trials of the largest and the smallest architecture, by name."""
        return dict(zip(REFERENCE_NAMES, self.trials_of(REFERENCES), strict=False))

    @cached_property
    def published(self) -> dict[str, Arch]:
        """The released networks that are in the space of the search, by their shipped names."""
        document = self.settings.get("space")
        if document is None or self.is_clip:
            return {}
        space = parse_space(document, "space", str(self.search))
        released = {
            name: read_arch(path)
            for name, path in shipped_files("search_spaces").items()
            if name.startswith("published/")
        }
        return {name: arch for name, arch in released.items() if arch in space}

    @property
    def winner(self) -> Trial | None:
        """The best trial of the searcher."""
        return best_of(self.searched)

    @property
    def front(self) -> list[Trial]:
        return pareto_front(self.searched, self.objectives)

    @property
    def quantities(self) -> list[Quantity]:
        """The costs that all trials have."""
        costs = [trial.cost for trial in self._journal[1]]
        return [
            one for name, one in QUANTITIES.items() if all(c.get(name) is not None for c in costs)
        ]

    @property
    def early_ends(self) -> dict[str, str]:
        """Why searches have fewer trials than asked for, by method; only those that do."""
        files = {self.method: "best.json", RANDOM_SEARCH: "random_best.json"}
        found = {name: read_document(Best, self.search / file) for name, file in files.items()}
        return {
            name: best["found"]["ended_early"]
            for name, best in found.items()
            if best is not None and "ended_early" in best["found"]
        }

    @cached_property
    def summary(self) -> Summary:
        """Metrics on the test split, and of clips the compute of their frames, and drift."""
        return read_document(Summary, self.root / "summary.json") or {}

    @cached_property
    def test_metrics(self) -> Metrics:
        """The metrics of the retrained network on the test split; empty without one."""
        return read_document(Metrics, self.retrain / "metrics.json") or {}

    @cached_property
    def details(self) -> Details:
        """The details of the test metrics; empty without them."""
        return read_document(Details, self.retrain / "details.json") or {}

    @property
    def front_rows(self) -> list[FrontRow]:
        """The networks of the front that were retrained."""
        front = read_document(Front, self.retrain / "front.json")
        return [] if front is None else front["rows"]

    @property
    def network(self) -> Path:
        return self.retrain / "network.safetensors"

    @cached_property
    def header(self) -> ModelHeader | None:
        """The header of the retrained network."""
        return read_header(self.network) if self.network.is_file() else None

    @property
    def found_arch(self) -> AnyArch | None:
        """The architecture that was retrained, or else the winner of the search."""
        if self.header is not None:
            return self.header.clip if self.is_clip else self.header.arch
        return None if self.winner is None else self.winner.arch

    @property
    def seconds(self) -> dict[str, float]:
        """The seconds of each stage that ended."""
        files = {
            stage.name: stage / "seconds.json"
            for stage in (self.supernet, self.search, self.retrain)
        }
        found = {name: read_document(float, path) for name, path in files.items()}
        return {name: seconds for name, seconds in found.items() if seconds is not None}

    def curves_of(self, stage: Path) -> list[dict[str, float | None]]:
        """Return the lines of a stage's `metrics.jsonl`."""
        return read_curves(stage / "metrics.jsonl")

    def made_with(self, stage: Path) -> Record | None:
        """Return the record of a stage that ended."""
        return read_document(Record, stage / "done.json")


def best_of(trials: list[Trial]) -> Trial | None:
    """Return the first trial with the highest score; None if none has a score."""
    scored = [trial for trial in trials if trial.score is not None]
    return max(scored, key=lambda trial: trial.fitness, default=None)
