"""Loggers: the default one writes what TensorBoard reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vipnas.training.callbacks.loggers import DEFAULT_LOGGER, LOGGERS


def test_the_default_logger_writes_event_files(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logger = LOGGERS[DEFAULT_LOGGER](tmp_path, 0)
    logger.log_numbers(20, {"loss/heatmaps": 0.5, "learning_rate": 1e-3})
    logger.log_picture(20, "heatmaps", np.zeros((4, 6, 3), np.uint8))
    logger.close()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss/heatmaps")] == [(20, 0.5)]
    (picture,) = events.Images("heatmaps")
    assert (picture.step, picture.height, picture.width) == (20, 4, 6)


def test_an_unknown_logger_is_named() -> None:
    with pytest.raises(ValueError, match="loggers: expected one of tensorboard, got 'tensorbord'"):
        LOGGERS.named("tensorbord", "loggers")
