"""Check the names of open tables in an experiment before anything runs."""

from __future__ import annotations

from vipnas.config.experiment import ExperimentConfig
from vipnas.config.search import SearchConfig
from vipnas.runtimes.table import RUNTIMES
from vipnas.search.table import searcher_settings


def check_names(config: ExperimentConfig, place: str) -> None:
    """Raise UserError if the experiment names an unknown searcher, runtime or precision."""
    if config.search is not None:
        _check_search(config.search, f"{place}: search")
    if config.video is not None:
        _check_search(config.video.search, f"{place}: video.search")


def _check_search(config: SearchConfig, place: str) -> None:
    searcher_settings(config, place)
    if config.latency is not None:
        runtime = RUNTIMES.named(config.latency.runtime, f"{place}.latency.runtime")
        runtime.check(config.latency.precision, place=f"{place}.latency")
