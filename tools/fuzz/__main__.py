"""Run spoiled inputs, and report what broke.

    python -m tools.fuzz --inputs 20000 --seed 0 --subprocesses 200 --report fuzz.json

Input number N of a seed is always the same: `--first N --inputs 1 --keep FOLDER` runs it again and
keeps its files. Exit code 1 where anything broke.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from tools.fuzz.kinds import KINDS
from tools.fuzz.runs import empty, run_case
from tools.fuzz.sandbox import make_sandbox
from vipnas.cli import main as command_line
from vipnas.files import write_atomically

CPU_SECONDS_LIMIT = 30  # of one input
SECONDS_LIMIT = 300  # of one input, however busy the machine is
MEMORY_LIMIT_BYTES = 16 << 30  # of address space: what is too large fails, and kills nobody else
SECONDS_BETWEEN_LINES = 15.0


class TooLong(BaseException):
    """An input took longer than the limit; no command may catch this."""


def main() -> int:
    options = _options()
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    for kind in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(kind, _too_long)
    # Every run would build the same parser again, which takes a quarter of the time.
    command_line.parser_of_all_commands = cache(command_line.parser_of_all_commands)
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        report = fuzz(options, root)
    write_atomically(options.report, json.dumps(report, indent=2) + "\n")
    print(json.dumps({key: report[key] for key in report if key != "faults"}))
    return 1 if report["faults"] else 0


def fuzz(options: argparse.Namespace, root: Path) -> dict[str, Any]:
    """Run the inputs; return counts by kind, and each fault once with the number of its first."""
    valid = root / "valid"
    valid.mkdir()
    sandbox = make_sandbox(valid)
    began = last_line = time.monotonic()
    ends: Counter[str] = Counter()
    faults: dict[str, dict[str, Any]] = {}
    last = options.first + options.inputs
    for number in range(options.first, last):
        rng = random.Random(f"{options.seed}-{number}")
        kind = options.kind or rng.choices(list(KINDS), [share for _, share in KINDS.values()])[0]
        folder = empty(options.keep or root / "case")
        in_subprocess = number - options.first >= options.inputs - options.subprocesses
        signal.alarm(SECONDS_LIMIT)
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS_LIMIT)
        try:
            case, outcome = run_case(KINDS[kind][0], sandbox, folder, rng, in_subprocess)
            fault, arguments, ended = outcome.fault, case.arguments, outcome.code
        except TooLong as error:
            fault, arguments, ended = str(error), [], None
        finally:
            signal.alarm(0)
            signal.setitimer(signal.ITIMER_PROF, 0)
        if options.keep:
            print(arguments, outcome.errors, outcome.printed[-300:])
        word = "fault" if fault else "well" if ended == 0 else "one line"
        ends[f"{kind}: {word}"] += 1
        if fault is not None:
            name = f"{kind} {_kind_of(fault)}"
            if name not in faults:
                faults[name] = {"number": number, "fault": f"{kind}: {fault}", "times": 0}
                print(f"input {number}, {kind}: {fault}", flush=True)
            faults[name]["times"] += 1
        if time.monotonic() - last_line > SECONDS_BETWEEN_LINES:
            last_line = time.monotonic()
            print(
                f"{number + 1 - options.first}/{options.inputs}, faults: {len(faults)}", flush=True
            )
    return {
        "seed": options.seed,
        "inputs": options.inputs,
        "subprocesses": options.subprocesses,
        "seconds": round(time.monotonic() - began, 1),
        "ends": dict(sorted(ends.items())),
        "faults": list(faults.values()),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--subprocesses", type=int, default=0, help="of them, the last so many")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--kind", choices=tuple(KINDS), help="one kind only")
    parser.add_argument("--keep", type=Path, help="folder for the files of the last input")
    parser.add_argument("--report", type=Path, default=Path("fuzz.json"), help="JSON to write")
    return parser.parse_args()


def _kind_of(fault: str) -> str:
    """The same for faults of one place: without what differs from input to input."""
    if " at " in fault:
        return fault.split(":")[0] + fault.rpartition(" at ")[2].split(" < ")[0]
    return "".join(c for c in fault.split("/")[0] if not c.isdigit())[:60]


def _too_long(_: int, frame: FrameType | None) -> None:
    places: list[str] = []
    while frame is not None and len(places) < 6:
        places.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}")
        frame = frame.f_back
    limit = f"{CPU_SECONDS_LIMIT} s of CPU, or {SECONDS_LIMIT} s,"
    raise TooLong(f"longer than {limit} at {' < '.join(places)}")


if __name__ == "__main__":
    sys.exit(main())
