from __future__ import annotations

import os
from pathlib import Path

import pytest
from errors_fixture import refused

from vipnas import shipped
from vipnas.shipped import find_beside, find_shipped, shipped_files


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with two spaces, an arch and an experiment; we stand in another directory."""
    for name in (
        "vipnas/shipped.py",
        "search_spaces/tiny.yaml",
        "search_spaces/wide.yaml",
        "search_spaces/notes.txt",
        "search_spaces/published/small_net.json",
        "experiments/quickstart.yaml",
        "experiments/reports/table.yaml",
    ):
        path = tmp_path / "checkout" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr(shipped, "PACKAGE", tmp_path / "checkout" / "vipnas")
    return tmp_path / "checkout"


@pytest.mark.parametrize(
    "name", ["tiny", "tiny.yaml", "search_spaces/tiny", "search_spaces/tiny.yaml"]
)
def test_finds_a_shipped_file_by_any_of_its_names(checkout: Path, name: str) -> None:
    assert find_shipped("search_spaces", name) == checkout / "search_spaces/tiny.yaml"


@pytest.mark.parametrize("name", ["published/small_net", "published/small_net.json"])
def test_finds_a_shipped_arch_in_its_directory(checkout: Path, name: str) -> None:
    assert (
        find_shipped("search_spaces", name) == checkout / "search_spaces/published/small_net.json"
    )


def test_of_one_suffix_only(checkout: Path) -> None:
    assert find_shipped("search_spaces", "tiny", ".yaml") == checkout / "search_spaces/tiny.yaml"
    with refused("tiny", "one of search_spaces/: published/small_net", "'tiny'"):
        find_shipped("search_spaces", "tiny", ".json")


def test_an_existing_file_wins_over_the_shipped_one(checkout: Path) -> None:
    Path("tiny.yaml").write_text("mine")
    assert find_shipped("search_spaces", "tiny.yaml").read_text() == "mine"


def test_a_directory_of_that_name_does_not_win(checkout: Path) -> None:
    Path("quickstart").mkdir()
    assert find_shipped("experiments", "quickstart") == checkout / "experiments/quickstart.yaml"


@pytest.mark.parametrize("name", ["../search_spaces/tiny", "tiny.json", "notes", "/tiny", "", "."])
def test_an_unknown_name_is_refused_in_one_line_with_all_that_there_are(
    checkout: Path, name: str
) -> None:
    with refused(name or "''", "a file, or one of search_spaces/: published/small_net, tiny, wide"):
        find_shipped("search_spaces", name)


def test_the_nearest_name_is_offered(checkout: Path) -> None:
    with refused("quickstrat", "quickstart", "'quickstrat'", "did you mean 'quickstart'?"):
        find_shipped("experiments", "quickstrat")


def test_an_installed_wheel_holds_the_files_inside_the_package(checkout: Path) -> None:
    os.rename(checkout / "search_spaces", checkout / "vipnas/search_spaces")
    found = find_shipped("search_spaces", "tiny")
    assert found == checkout / "vipnas/search_spaces/tiny.yaml"


def test_the_spaces_and_networks_of_the_paper_are_shipped() -> None:
    published = {"published/s_vipnas_mbv3", "published/s_vipnas_res50"}
    spaces = {"s_vipnas_mbv3", "s_vipnas_res50", "tiny"}
    assert published | spaces <= shipped_files("search_spaces").keys()


def test_a_file_beside_another_is_found_with_and_without_its_suffix(checkout: Path) -> None:
    experiment, beside = Path("mine/wide.yaml"), Path("mine/tiny.yaml")
    beside.parent.mkdir()
    beside.write_text("")
    experiment.write_text("")
    assert find_beside(experiment, "tiny") == find_beside(experiment, "tiny.yaml") == beside
    assert find_beside(experiment, "wide") is None  # the experiment itself is no space
    assert find_beside(experiment, "published/small_net") is None


def test_shipped_experiments_name_shipped_files(checkout: Path) -> None:
    """Some are named as a space is."""
    (checkout / "experiments" / "tiny.yaml").write_text("")
    assert find_beside(checkout / "experiments" / "quickstart.yaml", "tiny") is None
