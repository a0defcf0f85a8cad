"""A whole experiment of a few seconds: a dozen drawn images, a few steps, a few trials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

EXPERIMENT: dict[str, Any] = {
    "seed": 0,
    "space": "tiny",
    "data": {
        "train": {"annotations": "train/annotations.json", "images": "train/images"},
        "test": {"annotations": "test/annotations.json", "images": "test/images"},
        "val_persons": 4,
        "calibration_persons": 8,
    },
    "supernet": {
        "sampling": {"strategy": "sandwich", "num_random": 1},
        "schedule": {"epochs": 1, "batch_size": 4, "learning_rate": 1e-3},
    },
    "search": {
        "num_trials": 3,
        "constraints": [{"quantity": "macs", "at_most": 6_000_000}],
        "evolution": {"population_size": 2},
    },
    "retrain": {
        "init_from": "supernet",
        "schedule": {"epochs": 1, "batch_size": 4, "learning_rate": 1e-3},
    },
}


def write_experiment(directory: Path, document: dict[str, Any]) -> Path:
    path = directory / "experiment.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def draw_people(directory: Path) -> Path:
    """A data root with `train` (12 images) and `test` (4)."""
    from vipnas.synthetic.images import synthesize

    synthesize(directory / "train", 12, seed=0, image_hw=(96, 128))
    synthesize(directory / "test", 4, seed=1, image_hw=(96, 128))
    return directory


def files_below(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
