"""The folder of a run: where its results are, which of them are done, and who is at work in it."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from vipnas.errors import UserError, shown
from vipnas.files import check_version, read_json, write_atomically
from vipnas.settings import check_settings, content_digest

VERSION = 1
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class RunFolder:
    """The results of one run below `root`, a folder for each stage.

    All searches share the supernet. With a `name`, a search and what is retrained from it have
    folders of their own: `search_NAME` and `retrain_NAME`.
    """

    root: Path
    name: str | None = None

    def __post_init__(self) -> None:
        if self.name is not None and not NAME.fullmatch(self.name):
            raise UserError("--name", "letters, digits, '.', '_' and '-'", shown(self.name))

    @property
    def supernet(self) -> Path:
        return self.root / "supernet"

    @property
    def search(self) -> Path:
        return self._named("search")

    @property
    def retrain(self) -> Path:
        return self._named("retrain")

    @property
    def stages(self) -> tuple[Path, Path, Path]:
        """The folders of all stages."""
        return self.supernet, self.search, self.retrain

    @property
    def clips(self) -> RunFolder:
        """The same stages of the temporal level."""
        return replace(self, root=self.root / "video")

    def _named(self, stage: str) -> Path:
        return self.root / (stage if self.name is None else f"{stage}_{self.name}")

    @property
    def synthetic(self) -> Path:
        """Where synthetic data sets are written to."""
        return self.root / "data"

    @contextmanager
    def lock(self, stage: Path) -> Iterator[None]:
        """Keep other processes out of the folder of a stage.

        This process may lock a stage again inside. The lock of a killed process is released.

        Raises:
            UserError: If another process holds the stage; it names that process.
        """
        stage.mkdir(parents=True, exist_ok=True)
        lock, holder = FileLock(stage / ".lock", timeout=0, is_singleton=True), stage / ".lock.json"
        try:
            lock.acquire()
        except Timeout:
            found, hint = f"one in use by {_held_by(holder)}", "wait for it, or end it"
            raise UserError(str(stage), "a free folder", found, hint) from None
        outermost = lock.lock_counter == 1
        try:
            if outermost:
                write_atomically(holder, json.dumps(_this_process()) + "\n")
            yield
        finally:
            if outermost:
                holder.unlink(missing_ok=True)
            lock.release()

    def is_done(self, target: Path, settings: dict[str, Any]) -> bool:
        """Return whether a target was made with these settings, and say so.

        Raises:
            UserError: If it was made with other settings, or has changed since.
        """
        done = self.was_made(target, settings)
        if done:
            print(f"{target.parent.name}: done already; {target}")
        return done

    def was_made(self, target: Path, settings: dict[str, Any]) -> bool:
        """Return `is_done` without a word."""
        record = done_file(target)
        if not target.exists():
            return False
        if not record.exists():
            # A training that was killed between the two resumes from its last checkpoint.
            if target.with_name("checkpoint.pt").exists():
                return False
            expected = f"{record.name} beside it, with its settings"
            raise UserError(str(target), expected, "none", "move it to another folder")
        found = _read_record(record)
        check_settings(found["settings"], settings, record)
        if content_digest(target) not in (found["result"], found.get("replaced")):
            hint = "move it to another folder"
            raise UserError(str(target), "the file that was made", "a changed one", hint)
        return True

    def mark_done(self, target: Path, settings: dict[str, Any]) -> None:
        """Record what a target was made with, and a digest of it, in `done.json` beside it.

        The number of threads is recorded too: sums of floats depend on it in the last bits.
        """
        record = {
            "version": VERSION,
            "settings": settings,
            "result": content_digest(target),
            "threads": torch.get_num_threads(),
        }
        _write_record(done_file(target), record)

    @contextmanager
    def replacing(self, target: Path) -> Iterator[Path]:
        """Replace a finished target by the file that is written to the path it yields, if any.

        Its other facts stay. After a kill, the target is one of the two, and the record knows both.
        """
        other = target.with_name(f".other.{target.name}")
        other.unlink(missing_ok=True)  # left by a killed process
        yield other
        if other.exists():
            record = _read_record(done_file(target))
            both = {"result": content_digest(other), "replaced": record["result"]}
            _write_record(done_file(target), {**record, **both})
            other.replace(target)


def done_file(target: Path) -> Path:
    return target.with_name("done.json")


def made_with(target: Path) -> dict[str, Any]:
    """Return what a finished target was made with."""
    settings: dict[str, Any] = _read_record(done_file(target))["settings"]
    return settings


def _write_record(path: Path, record: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(record, indent=1, sort_keys=True) + "\n")


def _read_record(path: Path) -> dict[str, Any]:
    found = read_json(path)
    if not isinstance(found, dict) or not {"version", "settings", "result"} <= found.keys():
        raise UserError(str(path), "version, settings and result", shown(found))
    check_version(found["version"], VERSION, path)
    return found


def _this_process() -> dict[str, Any]:
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    return {
        "command": " ".join((name, *sys.argv[1:])),
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _held_by(holder: Path) -> str:
    """Return the holder of a lock. It may not have written its name yet, or just have ended."""
    try:
        found = read_json(holder)
        who = (
            f"process {found['pid']} on {found['host']} since {found['since']}: {found['command']}"
        )
    except (ValueError, KeyError, TypeError):
        who = "another process"
    return who
