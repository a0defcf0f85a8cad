"""macOS and Windows lack some modules and functions of Linux: nothing depends on them."""

from __future__ import annotations

import ast
import builtins
import io
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from vipnas.cli.main import main
from vipnas.files import write_atomically
from vipnas.latency import measure
from vipnas.latency.measure import Key, pinned
from vipnas.training.callbacks.monitor import memory_mib

PACKAGE = Path(__file__).resolve().parent.parent / "vipnas"
SOURCES = sorted(PACKAGE.rglob("*.py"))

MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
TEXT_MODES = [["a"], ["r"], ["w"], ["x"]]
FUNCTIONS = {
    "os": {
        *("O_DIRECTORY", "fork", "getloadavg", "getuid", "killpg", "mkfifo", "nice", "pread"),
        *("pwrite", "sched_getaffinity", "sched_setaffinity", "setsid", "statvfs", "uname"),
    },
    "signal": {"SIGKILL", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGUSR2", "alarm", "setitimer"},
}
# Most files have none of these words, and need not be parsed.
SUSPECT = re.compile(
    r"(_text|\bopen)\(|\b(os|signal)\.(" + "|".join(set().union(*FUNCTIONS.values())) + r")\b"
    r"|import .*\b(" + "|".join(MODULES) + r")\b|from (" + "|".join(MODULES) + r")\b"
)


def complaints(tree: ast.Module) -> list[str]:
    """Imports that run with the module; functions used where nobody asks whether they exist."""
    found = [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom) and MODULES & set(imported(node))
    ]
    found += [f"line {call.lineno}: no encoding" for call in calls(tree) if lacks_encoding(call)]
    for part in tree.body:
        for node in ast.walk(part):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                module, name = node.value.id, node.attr
                if name in FUNCTIONS.get(module, ()) and not asks(part, module, name):
                    found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


def asks(part: ast.AST, module: str, name: str) -> bool:
    """Whether the code asks if a function exists."""
    guard = f"hasattr({module}, '{name}')"
    return any(ast.unparse(call) == guard for call in calls(part))


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def lacks_encoding(call: ast.Call) -> bool:
    """Whether a file is read or written as text in the encoding of the system."""
    if any(keyword.arg == "encoding" for keyword in call.keywords):
        return False
    if isinstance(call.func, ast.Attribute) and call.func.attr in ("read_text", "write_text"):
        return True
    is_method = isinstance(call.func, ast.Attribute)
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    mode = call.args[0 if is_method else 1 :][:1]  # of `path.open(mode)`, or of `open(path, mode)`
    return name == "open" and [getattr(one, "value", None) for one in mode] in TEXT_MODES


def imported(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.ImportFrom):
        yield node.module or ""
    else:
        yield from (alias.name for alias in node.names)


def test_no_module_needs_what_only_posix_has() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in SOURCES}
    found = {p: complaints(ast.parse(text)) for p, text in texts.items() if SUSPECT.search(text)}
    assert {path: bad for path, bad in found.items() if bad} == {}


@pytest.mark.parametrize(
    ("source", "number"),
    [
        ("import resource", 1),
        ("from fcntl import flock", 1),
        ("def late():\n    import resource", 0),
        ("def cores():\n    return os.sched_getaffinity(0)", 1),
        (
            "def cores():\n    if hasattr(os, 'sched_getaffinity'):\n"
            "        return os.sched_getaffinity(0)",
            0,
        ),
        ("def write():\n    hasattr(os, 'pread')\n    os.pwrite(1, b'', 0)", 1),
        ("os.kill(pid, signal.SIGKILL)", 1),
        ("os.fsync(file)", 0),
        ("Path('a').read_text()", 1),
        ("path.open('w')", 1),
        ("path.open('wb')", 0),
        ("open(name, 'a', encoding='utf-8')", 0),
    ],
)
def test_what_only_posix_has_is_found(source: str, number: int) -> None:
    assert len(complaints(ast.parse(source))) == number
    assert SUSPECT.search(source) or not number


@pytest.fixture
def windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without any of them, once pytest has made its folder."""
    for name in FUNCTIONS["os"]:
        monkeypatch.delattr(os, name, raising=False)
    import_module = builtins.__import__

    def without_posix(name: str, *arguments: Any, **more: Any) -> Any:
        if name in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}")
        return import_module(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without_posix)


def test_files_are_written_there(windows: None, tmp_path: Path) -> None:
    write_atomically(tmp_path / "new" / "file.json", "{}\n")
    assert (tmp_path / "new" / "file.json").read_text() == "{}\n"


def test_names_that_the_output_cannot_show_are_printed_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the output goes to a file, it has the encoding of the system."""
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="cp1252"))
    labels = Path(__file__).parent / "artefacts" / "imports" / "cvat.xml"
    assert main(["import-data", "cvat", str(labels), "-o", str(tmp_path / "\u5199.json")]) == 0
    sys.stdout.flush()
    assert b"\\u5199.json" in written.getvalue()


def test_memory_is_left_out_there(windows: None) -> None:
    assert memory_mib(torch.device("cpu")) == {}


def test_latency_is_measured_there(windows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpinned, with the threads asked for."""
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    key: Key = measure.key_of_this_machine("torch", (64, 48), threads=2)
    before = torch.get_num_threads()
    with pinned(key):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == before
    with pytest.raises(ValueError, match="threads: expected 1 to 2, the available cores, got 3"):
        measure.key_of_this_machine("torch", (64, 48), threads=3)
