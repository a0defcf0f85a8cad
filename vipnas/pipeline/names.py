"""Check the names of open tables in an experiment before anything runs."""

from __future__ import annotations

from vipnas.config.experiment import ExperimentConfig
from vipnas.config.search import SearchConfig
from vipnas.runtimes.table import RUNTIMES
from vipnas.search.table import searcher_settings
from vipnas.tables import check_known
from vipnas.training.callbacks.loggers import LOGGERS


def check_names(config: ExperimentConfig, place: str) -> None:
    """Raise UserError for an unknown searcher, runtime, precision or logger."""
    for name in config.monitoring.loggers:
        check_known(name, LOGGERS, f"{place}: monitoring.loggers")
    if config.search is not None:
        _check_search(config.search, f"{place}: search")
    if config.video is not None:
        _check_search(config.video.search, f"{place}: video.search")


def _check_search(config: SearchConfig, place: str) -> None:
    searcher_settings(config, place)
    if config.latency is not None:
        runtime = RUNTIMES.named(config.latency.runtime, f"{place}.latency.runtime")
        runtime.check(config.latency.precision, place=f"{place}.latency")
