from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import vipnas
from vipnas.shipped import shipped_files

ROOT = Path(__file__).resolve().parent.parent
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")
SHIPPED_BESIDE_THE_PACKAGE = {"vipnas.search_spaces", "vipnas.experiments"}


def test_setup_cfg_lists_every_package() -> None:
    """A package that is missing there would be missing in the wheel, and only there."""
    directories = {path.parent for path in (ROOT / "vipnas").rglob("*.py")}
    packages = {".".join(directory.relative_to(ROOT).parts) for directory in directories}
    listed = set(SETUP["options"]["packages"].split())
    assert listed == packages | SHIPPED_BESIDE_THE_PACKAGE
    assert all((directory / "__init__.py").is_file() for directory in directories)


def test_the_installed_version_is_the_one_in_the_source() -> None:
    assert metadata.version("vipnas") == vipnas.__version__


def test_the_citation_has_the_version_of_the_source() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == vipnas.__version__


def test_every_test_that_the_house_rules_name_exists() -> None:
    named = re.findall(r"`(tests/[^`]*)`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_all_that_is_installed_is_pinned_and_stands_at_its_pin() -> None:
    """From vipnas[dev] down through all that it asks for."""
    pins = pinned_versions()
    installed = {name: metadata.version(name) for name in all_requirements("vipnas", {"dev"})}
    assert {"torch", "onnxruntime", "pytest", "ruff", "protobuf"} <= installed.keys()
    # A local label such as +cpu tells the build, not the version.
    assert {name: version.partition("+")[0] for name, version in installed.items()} == {
        name: pins.get(name, "not pinned") for name in installed
    }


def all_requirements(name: str, extras: set[str]) -> set[str]:
    """Normalised names of everything below `name[extras]` that its metadata asks for here."""
    waiting, seen = {(name, extra) for extra in extras | {""}}, set[tuple[str, str]]()
    while waiting:
        name, extra = one = waiting.pop()
        seen.add(one)
        for requirement in map(Requirement, metadata.requires(name) or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                below = {
                    (canonicalize_name(requirement.name), e) for e in requirement.extras | {""}
                }
                waiting |= below - seen
    return {name for name, _ in seen} - {"vipnas"}


def pinned_versions() -> dict[str, str]:
    """The lines of constraints.txt that hold for the Python that runs."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    here = [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]
    assert len({pin.name for pin in here}) == len(here), "a package is pinned twice"
    return {pin.name: str(pin.specifier).removeprefix("==") for pin in here}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: an old build directory in the checkout would hand on deleted files."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("vipnas", "search_spaces", "experiments"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    run([*pip, "--wheel-dir", "dist", "."], cwd=copy)
    (built,) = (copy / "dist").glob("vipnas-*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_the_sources_and_what_is_shipped_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "vipnas").rglob("*.py")}
    shipped = {
        f"vipnas/{path.relative_to(ROOT).as_posix()}"
        for kind in ("search_spaces", "experiments")
        for path in shipped_files(kind).values()
    }
    facts = {
        path.relative_to(ROOT).as_posix()
        for folder in ("data/formats/skeletons", "deploy/presets")
        for path in (ROOT / "vipnas" / folder).rglob("*.yaml")
    }
    facts |= {
        path.relative_to(ROOT).as_posix()
        for folder in ("report/page", "deploy/web")
        for path in (ROOT / "vipnas" / folder).iterdir()
    }
    assert packed == sources | shipped | facts | {"vipnas/py.typed"}


@pytest.mark.slow
def test_an_installed_wheel_works_in_an_empty_directory(wheel: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    binaries = install_beside_our_packages(wheel, tmp_path / "venv")
    assert "Usage: vipnas" in run([str(binaries / "vipnas"), "--help"], cwd=empty)
    ask = (
        "from vipnas.shipped import PACKAGE, shipped_files\n"
        "print(PACKAGE, *shipped_files('search_spaces'), *shipped_files('experiments'))"
    )
    place, *names = run([str(binaries / "python"), "-c", ask], cwd=empty).split()
    assert Path(place).is_relative_to(tmp_path / "venv")
    assert names == [*shipped_files("search_spaces"), *shipped_files("experiments")]


def install_beside_our_packages(wheel: Path, venv: Path) -> Path:
    """A new environment with only the wheel in it, which sees the dependencies of ours."""
    run([sys.executable, "-m", "venv", "--without-pip", str(venv)], cwd=venv.parent)
    (site_packages,) = venv.glob("lib/python*/site-packages")
    # What a .pth file names is searched last, and its own .pth files (we are editable) stay unread.
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    pip = [sys.executable, "-m", "pip", "--python", str(venv), "install", "--quiet"]
    run([*pip, "--no-deps", "--ignore-installed", str(wheel)], cwd=venv.parent)
    return venv / "bin"


def run(command: list[str], cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
