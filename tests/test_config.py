"""Experiments: old keys name the new ones, and sections that do not fit are one line."""

from __future__ import annotations

from typing import Any

import pytest
from errors_fixture import refused

from vipnas.config.clip import Exposure, VideoConfig
from vipnas.config.data import Augmentation, BoxFit, ClipAugmentation, Data, PoseFiles
from vipnas.config.schedule import Schedule
from vipnas.config.search import SearchConfig
from vipnas.config.training import Compute, Sampling, SupernetConfig
from vipnas.files import parse

SCHEDULE: dict[str, Any] = {"epochs": 1.0, "batch_size": 2, "learning_rate": 0.1}
FILES = {"images": "images", "annotations": "train.json"}
SYNTHETIC = {"num_train_images": 1, "num_test_images": 1}
VIDEO: dict[str, Any] = {
    "num_follow_ups": 1,
    "fusion": {"stages": [1]},
    "supernet": {"schedule": SCHEDULE},
    "search": {"num_trials": 1},
    "retrain": {"schedule": SCHEDULE},
}


@pytest.mark.parametrize(
    ("kind", "raw", "old", "new"),
    [
        (Data, {"train": FILES, "test": FILES}, "search_persons", "val_persons"),
        (VideoConfig, VIDEO, "search_clips", "val_clips"),
        (Exposure, {}, "truth_steps", "teacher_forcing_steps"),
        (Exposure, {}, "truth_noise_px", "teacher_forcing_noise_px"),
        (SupernetConfig, {"schedule": SCHEDULE}, "opening", "progressive_shrinking"),
    ],
)
def test_an_old_key_names_the_new_one(
    kind: type[Any], raw: dict[str, Any], old: str, new: str
) -> None:
    parse(kind, raw, "file")
    with refused("file", new, f"'{old}'", f"renamed: use {new}"):
        parse(kind, {**raw, old: 3}, "file")


@pytest.mark.parametrize(
    ("kind", "raw", "fields"),
    [
        (Data, {}, ("file", "exactly one of synthetic", "none")),
        (Data, {"train": FILES}, ("file", "or train and test", "train")),
        (
            Data,
            {"train": FILES, "test": FILES, "synthetic": SYNTHETIC},
            ("file", "exactly one of", "synthetic, train, test"),
        ),
        (PoseFiles, {"images": "a"}, ("file", "exactly one of annotations and posetrack", "none")),
        (PoseFiles, {**FILES, "posetrack": "b"}, ("file", "exactly one of", "both")),
        (
            Augmentation,
            {"flip_probability": 1.5},
            ("file: flip_probability", "a number from 0 to 1", "1.5"),
        ),
        (Augmentation, {"scale_factor": 1.0}, ("file: scale_factor", "0 to below 1", "1.0")),
        (ClipAugmentation, {"shift": 0.5}, ("file: shift", "0 to below 0.5", "0.5")),
        (Schedule, {**SCHEDULE, "drop_at": [2.0]}, ("file: drop_at", "from 0 to 1", "[2.0]")),
        (Schedule, {**SCHEDULE, "epochs": 0.0}, ("file: epochs", "a number above 0", "0.0")),
        (Sampling, {"num_random": 0}, ("file: num_random", "from 1", "0", "uniform_macs")),
        (Sampling, {"macs_between": [3, 2]}, ("file: macs_between", "the smaller one", "[3, 2]")),
        (
            SupernetConfig,
            {"schedule": SCHEDULE, "progressive_shrinking": {"largest_alone_epochs": 1.0}},
            ("file: progressive_shrinking", "before epoch 1", "epoch 1"),
        ),
        (
            SupernetConfig,
            {"schedule": SCHEDULE, "init_arch": "a"},
            ("file: init_arch", "init_from with this key", "none"),
        ),
        (
            VideoConfig,
            {**VIDEO, "supernet": {"schedule": SCHEDULE, "init_from": "a.pth"}},
            ("file: supernet.init_from", "supernet or null for clips", "'a.pth'"),
        ),
        (
            Data,
            {"train": FILES, "test": {**FILES, "weights": [1.0]}},
            ("file: test.weights", "no such key", "[1.0]"),
        ),
        (
            SearchConfig,
            {"num_trials": 1, "objectives": ["score", "latency_ms"]},
            ("file: latency", "a mapping", "none", "latency_ms"),
        ),
    ],
)
def test_a_section_that_does_not_fit_is_one_line(
    kind: type[Any], raw: dict[str, Any], fields: tuple[str, ...]
) -> None:
    with refused(*fields):
        parse(kind, raw, "file")


@pytest.mark.parametrize(
    ("kind", "change", "place", "expected"),
    [
        (Compute, {"threads": 1_000_000}, "file: threads", "1024"),
        (SearchConfig, {"num_trials": 1, "threads": 0}, "file: threads", "1"),
        (BoxFit, {"padding": 1e6}, "file: padding", "10"),
    ],
)
def test_numbers_with_which_a_run_would_crash_or_see_nothing(
    kind: type[Any], change: dict[str, Any], place: str, expected: str
) -> None:
    with refused(place, expected):
        parse(kind, change, "file")
