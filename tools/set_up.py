"""Make .venv with the package and its pinned dependencies, or mend it, or leave it if up to date.

`make` calls this first at every target. Only the standard library: nothing else is there yet.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parent.parent
INPUTS = ("setup.cfg", "pyproject.toml", "constraints.txt", "vipnas/__init__.py")
CONSTRAINTS = "constraints.txt"

Step = Literal["nothing", "install", "rebuild"]


def main() -> None:
    venv = ROOT / ".venv"
    # Two `make` at once: the second waits, and then finds nothing to do.
    lock = os.open(ROOT, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    step = next_step(ROOT, venv)
    if step == "rebuild":
        make_venv(venv)
    if step != "nothing":
        install(venv)
        (venv / "set_up.json").write_text(json.dumps(describe(ROOT, venv), indent=1))


def next_step(root: Path, venv: Path) -> Step:
    """What .venv needs: a new one after a killed install too, since pip trusts its own records."""
    if not python_runs(venv) or (venv / "installing").exists():
        return "rebuild"
    try:
        noted = json.loads((venv / "set_up.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return "install"
    now = describe(root, venv)
    missing = set(noted["site_packages"]) - set(now["site_packages"])
    if any(not name.endswith(".dist-info") for name in missing):
        return "rebuild"
    same = (noted["root"], noted["inputs"]) == (now["root"], now["inputs"])
    return "nothing" if same and not missing else "install"


def describe(root: Path, venv: Path) -> dict[str, Any]:
    """What the installation was made from, where (it is editable), and what lies in it."""
    digest = hashlib.sha256(b"".join((root / name).read_bytes() for name in INPUTS))
    packages = {path.name for path in venv.glob("lib/python*/site-packages/*")} - {"__pycache__"}
    return {"root": str(root), "inputs": digest.hexdigest(), "site_packages": sorted(packages)}


def python_runs(venv: Path) -> bool:
    """False also when the Python that it was made from has gone, or pip with it."""
    try:
        command = [str(venv / "bin" / "python"), "-I", "-c", "import pip"]
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


def make_venv(venv: Path) -> None:
    shutil.rmtree(venv, ignore_errors=True)
    # Not sys.executable, which may be the Python of the environment that has just been removed.
    python = getattr(sys, "_base_executable", sys.executable)
    run(
        [python, "-m", "venv", str(venv)],
        f"{python} cannot make a virtual environment (Debian, Ubuntu: apt install python3-venv)",
    )


def install(venv: Path) -> None:
    """Setuptools first and without build isolation, so that the build too is pinned."""
    interrupted = venv / "installing"
    interrupted.touch()
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--constraint", CONSTRAINTS]
    failed = "pip could not install the pinned packages (its own message is above)"
    run([*pip, "--quiet", "setuptools"], failed)
    run([*pip, "--no-build-isolation", "--editable", ".[dev]"], failed)
    interrupted.unlink()


def run(command: list[str], complaint: str) -> None:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    if subprocess.run(command, cwd=ROOT, env=environment).returncode != 0:
        sys.exit(f"set_up: {complaint}")


if __name__ == "__main__":
    main()
