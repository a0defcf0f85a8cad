from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "tools" / "set_up.py"


@pytest.fixture(scope="module")
def set_up() -> ModuleType:
    spec = importlib.util.spec_from_file_location("set_up", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(set_up: ModuleType, tmp_path: Path) -> Path:
    """A checkout whose .venv is complete: our own Python, and site-packages with two packages."""
    for name in set_up.INPUTS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    venv = tmp_path / ".venv"
    for package in ("torch", "torch-2.13.0.dist-info", "__pycache__"):
        (venv / "lib/python3.10/site-packages" / package).mkdir(parents=True)
    (venv / "bin").mkdir()
    (venv / "bin" / "python").symlink_to(sys.executable)
    note(set_up, tmp_path)
    return tmp_path


def note(set_up: ModuleType, root: Path) -> None:
    described = set_up.describe(root, root / ".venv")
    (root / ".venv" / "set_up.json").write_text(json.dumps(described))


def test_nothing_is_done_when_nothing_has_changed(set_up: ModuleType, checkout: Path) -> None:
    assert set_up.next_step(checkout, checkout / ".venv") == "nothing"
    (checkout / ".venv/lib/python3.10/site-packages/added_by_hand").mkdir()
    (checkout / ".venv/lib/python3.10/site-packages/__pycache__").rmdir()
    assert set_up.next_step(checkout, checkout / ".venv") == "nothing"


@pytest.mark.parametrize("name", ["setup.cfg", "constraints.txt", "pyproject.toml"])
def test_a_changed_input_installs_again(set_up: ModuleType, checkout: Path, name: str) -> None:
    (checkout / name).write_text("changed")
    assert set_up.next_step(checkout, checkout / ".venv") == "install"


@pytest.mark.parametrize("torn", [None, '{"root": "/ho'])
def test_an_environment_without_a_whole_note_is_completed_not_thrown_away(
    set_up: ModuleType, checkout: Path, torn: str | None
) -> None:
    (checkout / ".venv/set_up.json").unlink()
    if torn:
        (checkout / ".venv/set_up.json").write_text(torn)
    assert set_up.next_step(checkout, checkout / ".venv") == "install"


def test_a_moved_checkout_is_installed_again(set_up: ModuleType, checkout: Path) -> None:
    moved = checkout.rename(checkout.with_name("moved"))
    assert set_up.next_step(moved, moved / ".venv") == "install"


def test_a_broken_environment_is_made_anew(set_up: ModuleType, checkout: Path) -> None:
    venv = checkout / ".venv"
    (venv / "lib/python3.10/site-packages/torch").rmdir()
    assert set_up.next_step(checkout, venv) == "rebuild"


def test_another_version_in_the_place_of_a_pinned_one_is_replaced(
    set_up: ModuleType, checkout: Path
) -> None:
    pinned = checkout / ".venv/lib/python3.10/site-packages/torch-2.13.0.dist-info"
    pinned.rename(pinned.with_name("torch-2.14.0.dist-info"))
    assert set_up.next_step(checkout, checkout / ".venv") == "install"


def test_a_killed_installation_is_made_anew(set_up: ModuleType, checkout: Path) -> None:
    (checkout / ".venv/installing").touch()
    assert set_up.next_step(checkout, checkout / ".venv") == "rebuild"


def test_an_environment_whose_python_has_gone_is_made_anew(
    set_up: ModuleType, checkout: Path
) -> None:
    python = checkout / ".venv/bin/python"
    python.unlink()
    assert set_up.next_step(checkout, checkout / ".venv") == "rebuild"
    python.symlink_to(checkout / "no-such-python")
    assert set_up.next_step(checkout, checkout / ".venv") == "rebuild"
