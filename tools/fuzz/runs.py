"""One input run, and what every run must keep to."""

from __future__ import annotations

import io
import logging
import os
import random
import re
import shutil
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from tools.fuzz.sandbox import Sandbox
from tools.fuzz.spoiling import Case, Make
from vipnas.cli.main import main

MAX_LINE = 1000  # characters
# A file, an option, a setting of an experiment, or a name that stands for no file or an argument.
PLACE = re.compile(
    r"""\S\.(yaml|jsonl?|pth?|safetensors|jpg|png|onnx)\b | '/ | (^|[ (])--[a-z] | \b\w+\.\w+:[ ]
    | ^\S*/\S*:[ ] | ^\S*:[ ]expected[ ]a[ ]file | (?-i:^[A-Z]+:[ ])""",
    re.IGNORECASE | re.VERBOSE,
)
USAGE_CODE = 2  # of argparse
# What a failed run may leave: who is at work in a folder, how long it was, and the pictures that
# `label` has done.
MAY_CHANGE = {"seconds.json", ".lock", ".lock.json", ".vipnas.lock", "labels.json"}
NOT_ERRORS = ("WARNING: ", "synthesize: ", "convert: note: ", "usage: ", " ")


@dataclass(frozen=True)
class Outcome:
    """What a run printed, how it ended, and what is wrong with that."""

    code: int | None
    printed: str
    errors: str
    fault: str | None = None

    @property
    def ended_well(self) -> bool:
        return self.code == 0


def run_case(
    make: Make, sandbox: Sandbox, folder: Path, rng: random.Random, subprocesses: bool = False
) -> tuple[Case, Outcome]:
    """Make an input in an empty folder, run it there, and check the contract."""
    case = make(sandbox, folder, rng)
    before, valid = _contents(folder), _stamps(sandbox.root)
    found = (_in_subprocess if subprocesses else _in_process)(case.arguments, folder)
    fault = found.fault or _fault(case, found)
    if fault is None and (left := [path.name for path in folder.rglob("*.partial")]):
        fault = f"left half-written: {left}"
    if fault is None and found.code != 0:
        after = _contents(folder)
        changed = {name for name in before.keys() | after if before.get(name) != after.get(name)}
        if unexpected := sorted(n for n in changed if Path(n).name not in MAY_CHANGE):
            fault = f"failed, but changed {unexpected}"
    if fault is None and _stamps(sandbox.root) != valid:
        fault = "changed its inputs"
    return case, Outcome(found.code, found.printed, found.errors, fault)


def _fault(case: Case, found: Outcome) -> str | None:
    if found.code == 0:
        return None if case.judge is None else case.judge(found.printed)
    lines = [line for line in found.errors.splitlines() if not line.startswith(NOT_ERRORS)]
    if found.code not in (1, USAGE_CODE):
        return f"exit code {found.code}"
    if len(lines) != 1:
        return f"{len(lines)} lines of error: {lines[:3]}"
    if not lines[0].startswith(("vipnas ", "vipnas: ")):
        return f"not a line of vipnas: {lines[0]}"
    if len(lines[0]) > MAX_LINE:
        return f"a line of {len(lines[0])} characters: {lines[0][:200]}"
    message = lines[0].partition(": ")[2]
    named = PLACE.search(message) or message.startswith(
        tuple(f"{a}: " for a in (".", *case.arguments))
    )
    return None if named or found.code == USAGE_CODE else f"no place: {lines[0]}"


def _in_process(arguments: list[str], folder: Path) -> Outcome:
    printed, errors = io.StringIO(), io.StringIO()
    code: int | None = None
    fault = None
    with redirect_stdout(printed), redirect_stderr(errors), _quiet(), _inside(folder):
        try:
            code = main(arguments)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)[-4:]
            places = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames))
            fault = f"{type(error).__name__}: {str(error)[:200]} at {places}"
    return Outcome(code, printed.getvalue(), errors.getvalue(), fault)


def _in_subprocess(arguments: list[str], folder: Path) -> Outcome:
    root = str(Path(__file__).resolve().parents[2])
    ended = subprocess.run(
        [sys.executable, "-m", "vipnas", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    fault = None
    if "Traceback" in ended.stderr:
        fault = f"a traceback: {ended.stderr.splitlines()[-1]}"
    return Outcome(ended.returncode, ended.stdout, ended.stderr, fault)


@contextmanager
def _quiet() -> Iterator[None]:
    """No log lines; warnings of libraries are faults, since a user would see them."""
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", ResourceWarning)
            yield
    finally:
        logging.disable(logging.NOTSET)


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """In that working directory, since some settings are paths relative to it."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def _stamps(root: Path) -> dict[str, tuple[int, int]]:
    """Return sizes and times of all valid inputs."""
    files = (path for path in root.rglob("*") if path.is_file() and path.name not in MAY_CHANGE)
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
