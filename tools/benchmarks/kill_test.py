"""Kill each of the three commands at random moments, resume, and compare with an unbroken run.

    python -m tools.benchmarks.kill_test [--kills 3] [--seed 0] [--report FILE]

Compared bit for bit: weights and averaged weights, the trials but for their seconds, the winner,
the test metrics. The exit code is 1 if anything differs. Uses a small synthetic set; a few minutes
on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tools.benchmarks.command import command_line, write_report

ROOT = Path(__file__).resolve().parents[2]
MEASURED = {"seconds", "images_per_second", "memory_mib", "gpu_memory_mib"}
COMMANDS = {"train-supernet": "supernet", "search": "search", "retrain": "retrain"}
EXPERIMENT = """
seed: 0
space: tiny
data:
  synthetic: {num_train_images: 48, num_test_images: 12, image_hw: [120, 160]}
  val_persons: 16
  calibration_persons: 16
supernet:
  sampling: {strategy: sandwich, num_random: 1}
  schedule: {epochs: 12, batch_size: 8, learning_rate: 3.0e-3}
search:
  num_trials: 16
  constraints: [{quantity: macs, at_most: 6000000}]
  evolution: {population_size: 6}
retrain: {init_from: supernet, schedule: {epochs: 24, batch_size: 8, learning_rate: 3.0e-3}}
checkpoint_minutes: 0.005
"""


class Kill(NamedTuple):
    """One kill: when, what was on the disk then, and what differs in the end."""

    command: str
    after_s: float
    left: str
    differences: list[str]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=3, help="of each command")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--report", type=Path, help="write the table there, as markdown")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        kills = kill_test(Path(directory), options.kills, options.seed)
    table = [
        "| command | killed after | left on the disk | run again |",
        "|---|---|---|---|",
        *(
            f"| `{kill.command}` | {kill.after_s:.1f} s | {kill.left} |"
            f" {', '.join(kill.differences) or 'all the same'} |"
            for kill in kills
        ),
    ]
    print("\n".join(table))
    heading = [
        f"# Killed and run again, {date.today()}",
        "",
        f"{command_line()}.",
        "SIGKILL to the whole process group. Compared with the unbroken run, bit for bit:",
        "weights, averaged weights, trials (but for their seconds), winner, test metrics.",
        "",
    ]
    write_report(options.report, heading + table)
    return int(any(kill.differences for kill in kills))


def kill_test(directory: Path, kills: int, seed: int) -> list[Kill]:
    """Unbroken commands one after the other; beside each, the same from the same start, killed."""
    rng = random.Random(seed)
    experiment = directory / "experiment.yaml"
    experiment.write_text(EXPERIMENT)
    unbroken = directory / "unbroken"
    unbroken.mkdir()
    found = []
    for command, stage in COMMANDS.items():
        before = directory / f"before_{stage}"
        shutil.copytree(unbroken, before)
        started = time.monotonic()
        start(command, experiment, unbroken).wait()
        seconds = time.monotonic() - started
        expected = results(unbroken / stage)
        for number in range(kills):
            broken = directory / f"{stage}_{number}"
            shutil.copytree(before, broken)
            after_s = rng.uniform(0.3, 0.95) * seconds
            _kill_after(after_s, start(command, experiment, broken))
            left = _left(broken / stage)
            if start(command, experiment, broken).wait() != 0:
                found.append(Kill(command, after_s, left, ["the command failed"]))
                continue
            again = results(broken / stage)
            differences = sorted(
                name
                for name in expected.keys() | again.keys()
                if not _equal(expected.get(name), again.get(name))
            )
            found.append(Kill(command, after_s, left, differences))
    return found


def results(stage: Path) -> dict[str, Any]:
    """What must be the same: tensors by name, documents without what time and memory they took."""
    found: dict[str, Any] = {}
    for path in sorted(stage.glob("*.pt")):
        found |= {f"{path.name} {key}": value for key, value in _flat(_load(path)).items()}
    found |= {path.name: path.read_bytes() for path in sorted(stage.glob("*.safetensors"))}
    for path in sorted(stage.glob("*.json*")):
        if path.name != "seconds.json":  # nothing but time
            lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
            found[path.name] = [_timeless(json.loads(line)) for line in lines]
    assert found, stage
    return found


def start(command: str, experiment: Path, output: Path, *more: str) -> subprocess.Popen[bytes]:
    """A command of vipnas in a process group of its own, without its output."""
    places = [str(experiment), "--output", str(output), "--device", "cpu"]
    return subprocess.Popen(
        [sys.executable, "-m", "vipnas", command, *places, *more],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def _kill_after(seconds: float, process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # the workers that render images, too
        process.wait()


def _left(stage: Path) -> str:
    checkpoint, trials = stage / "checkpoint.pt", stage / "trials.jsonl"
    if trials.exists():
        num_trials = max(0, trials.read_bytes().count(b"\n") - 1)  # the first line is a heading
        return f"{num_trials} trials"
    if checkpoint.exists():
        return f"step {_load(checkpoint)['step']}"
    return "nothing yet"


def _load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, (dict, list)):
        return {name: value}
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    return {
        place: inner
        for key, part in parts
        for place, inner in _flat(part, f"{name}.{key}".lstrip(".")).items()
    }


def _timeless(value: Any) -> Any:
    if isinstance(value, list):
        return [_timeless(part) for part in value]
    if isinstance(value, dict):
        return {key: _timeless(part) for key, part in value.items() if key not in MEASURED}
    return value


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return torch.equal(first, second)
    return bool(first == second)


if __name__ == "__main__":
    sys.exit(main())
