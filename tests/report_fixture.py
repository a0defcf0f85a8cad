"""Runs that were never trained: journals, curves and metrics made by hand."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from search_fixture import Separable, trial

from vipnas.data.crops.images import write_png
from vipnas.files import to_plain
from vipnas.search.journal import Journal
from vipnas.space.image import SearchSpace

NUM_TRIALS = 12


def settings_of(space: SearchSpace, seed: int) -> dict[str, Any]:
    """As a journal holds them."""
    return {
        "seed": seed,
        "device": "cpu",
        "space": space.to_plain(),
        "search": {
            "searcher": "evolution",
            "objectives": ["score", "macs"],
            "constraints": [{"quantity": "macs", "at_most": 5_000_000.0, "at_least": 0.0}],
        },
    }


def write_run(
    folder: Path, space: SearchSpace, seed: int = 0, num_trials: int = NUM_TRIALS
) -> Path:
    """A run whose search is done, and whose retraining has metrics but left no network."""
    rng, score = random.Random(seed), Separable(space)
    archs = {
        "evolution": [space.sample(rng) for _ in range(num_trials)],
        "random": [space.sample(rng) for _ in range(num_trials)],
        "reference": [space.max_arch(), space.min_arch()],
    }
    journal = Journal(folder / "search" / "trials.jsonl", settings_of(space, seed))
    with journal.path.open("a") as file:  # not `append`, which waits for the disk each time
        for method, found in archs.items():
            for number, arch in enumerate(found):
                one = trial(number, arch, score(arch), method)
                file.write(json.dumps(to_plain(one)) + "\n")
    for stage, loss in (("supernet", "loss/random"), ("retrain", "loss/labels")):
        lines = [{"step": step, loss: 1 / step, "ap/network": step / 100} for step in (10, 20, 30)]
        (folder / stage).mkdir()
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        (folder / stage / "metrics.jsonl").write_text(text + '{"step": 40, "lo')
        (folder / stage / "seconds.json").write_text("75.0")
    metrics = {"ap": 0.625, "ap50": 0.75, "ap75": 0.5, "ar": 0.7, "settings": {}}
    (folder / "retrain" / "metrics.json").write_text(json.dumps(metrics))
    details = {
        "num_images": 40,
        "ap_interval": [0.5, 0.7],
        "ap_by_joint": {"left_knee": 0.375},
        "precision": {"0.50": [1.0, 0.5, 0.0]},
    }
    (folder / "retrain" / "details.json").write_text(json.dumps(details))
    picture = np.zeros((8, 6, 3), np.uint8)
    write_png(folder / "retrain" / "predictions_worst.png", picture)
    rows = [{"network": "largest, inherited", "macs": 1, "params": 1, "ap": 0.25}]
    (folder / "summary.json").write_text(json.dumps({"test": rows}))
    return folder
