"""Kill searches at random moments, resume each, and compare with an unbroken run.

    python -m tools.benchmarks.kill_search [--kills 10] [--seed 0] > REPORT.md

In turn: the whole command, without Ray; the command of a search in two Ray workers; one of the two
workers, while the command continues. Compared: every trial, but for its worker and its seconds, the
winners, the front. The exit code is 1 if anything differs. Needs Ray; 20 seconds a kill.
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

from tools.benchmarks.command import command_line

# Of the tool beside this one: a small experiment, and how a command is started.
from tools.benchmarks.kill_test import EXPERIMENT, start

WORKERS = ("--workers", "2")
VICTIMS = {"process": (), "driver": WORKERS, "worker": WORKERS}
BY_CHANCE = ("seconds", "worker", "retried")
MINUTES = 10


class Kill(NamedTuple):
    """One kill: of what, at how many trials in the journal, and what differs in the end."""

    victim: str
    at_trials: int
    differences: list[str]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        kills = kill_search(Path(directory), options.kills, options.seed)
    print(f"# Searches killed and run again, {date.today()}\n")
    print(f"{command_line()}.\n")
    print("| killed | at trials | run again |\n|---|---|---|")
    for kill in kills:
        ended = ", ".join(kill.differences) or "all the same"
        print(f"| {kill.victim} | {kill.at_trials} | {ended} |")
    return int(any(kill.differences for kill in kills))


def kill_search(directory: Path, kills: int, seed: int) -> list[Kill]:
    """One unbroken search, then the same from the same start, killed."""
    rng = random.Random(seed)
    experiment = directory / "experiment.yaml"
    experiment.write_text(EXPERIMENT)
    trained = directory / "trained"
    start("train-supernet", experiment, trained).wait()
    unbroken = _copy(trained, directory / "unbroken")
    start("search", experiment, unbroken).wait()
    expected = results(unbroken)
    num_trials = len(expected) - 3
    found = []
    for number in range(kills):
        victim = list(VICTIMS)[number % len(VICTIMS)]
        broken = _copy(trained, directory / f"broken_{number}")
        command = start("search", experiment, broken, *VICTIMS[victim])
        at_trials = _kill(victim, command, broken, rng.randrange(1, num_trials), rng.random())
        again = command if victim == "worker" else start("search", experiment, broken, *WORKERS)
        if again.wait() != 0:
            found.append(Kill(victim, at_trials, ["the command failed"]))
            continue
        ended = results(broken)
        names = sorted(expected.keys() | ended.keys())
        differences = [name for name in names if expected.get(name) != ended.get(name)]
        found.append(Kill(victim, at_trials, differences))
        shutil.rmtree(broken)
    return found


def results(output: Path) -> dict[str, Any]:
    """Every trial by method and number, the two winners and the front."""
    stage = output / "search"
    found: dict[str, Any] = {}
    for line in (stage / "trials.jsonl").read_text().splitlines()[1:]:
        trial = json.loads(line)
        found[f"{trial['method']} {trial['number']}"] = trial
    for name in ("best.json", "random_best.json", "pareto.json"):
        found[name] = json.loads((stage / name).read_text())
    return {name: _without_chance(value) for name, value in found.items()}


def _without_chance(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_chance(part) for part in value]
    if isinstance(value, dict):
        return {
            name: _without_chance(part) for name, part in value.items() if name not in BY_CHANCE
        }
    return value


def _copy(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


def _kill(
    victim: str, command: subprocess.Popen[bytes], output: Path, after_trials: int, share: float
) -> int:
    """Wait for so many trials and for a share of the time of one more; kill; how many there are."""
    journal = output / "search" / "trials.jsonl"
    deadline = time.monotonic() + 60 * MINUTES
    while len(trials := _trials(journal)) < after_trials:
        if command.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the search ended or hung before it could be killed: {output}")
        time.sleep(0.01)
    time.sleep(share * max(trial["seconds"] for trial in trials))
    if victim == "worker":
        # Who scored last; "host:process".
        names = [trial["worker"] for trial in trials if trial["worker"] is not None]
        os.kill(int(names[-1].rpartition(":")[2]), signal.SIGKILL)
    else:
        command.kill()  # only itself: Ray must notice
        command.wait()
    return len(_trials(journal))


def _trials(journal: Path) -> list[dict[str, Any]]:
    if not journal.exists():
        return []
    return [json.loads(line) for line in journal.read_text().split("\n")[1:-1]]


if __name__ == "__main__":
    sys.exit(main())
