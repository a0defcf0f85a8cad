"""A package that is only installed adds a searcher and a runtime; nothing in vipnas knows them."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Iterator
from copy import deepcopy
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
from errors_fixture import refused
from experiment_fixture import EXPERIMENT, draw_people, write_experiment
from model_fixture import save_network, save_supernet

from vipnas import tables
from vipnas.arch.io import write_arch
from vipnas.cli.main import main
from vipnas.models.posenet import PoseNet
from vipnas.pipeline.run_folder import RunFolder
from vipnas.runtimes.table import RUNTIMES
from vipnas.search.table import SEARCHERS
from vipnas.space.image import SearchSpace
from vipnas.tables import OpenTable

pytestmark = pytest.mark.usefixtures("onnx_operators")

PACKAGE = Path(__file__).parent / "plugin"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package in a folder on the path, as pip leaves it."""
    site_packages = tmp_path / "site-packages"
    shutil.copytree(PACKAGE, site_packages)
    monkeypatch.syspath_prepend(str(site_packages))
    importlib.invalidate_caches()
    yield
    sys.modules.pop("vipnas_example", None)


def experiment_in(tmp_path: Path, searcher: str, settings: dict[str, object]) -> Path:
    document = deepcopy(EXPERIMENT)
    document["search"] |= {"searcher": searcher, "searcher_settings": settings}
    return write_experiment(tmp_path, document)


@pytest.mark.timeout(120)
def test_an_experiment_is_searched_by_the_searcher_of_a_package(
    installed: None, tiny_space: SearchSpace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = str(experiment_in(tmp_path, "hill_climbing", {"probability": 0.5}))
    data = ["--data-root", str(draw_people(tmp_path)), "--device", "cpu"]
    run = [*data, "--output", str(tmp_path / "run")]
    supernet = tmp_path / "run" / "supernet" / "supernet.safetensors"
    save_supernet(supernet, tiny_space.with_facts(num_keypoints=17))
    RunFolder(tmp_path / "run").mark_done(supernet, {})
    assert main(["search", experiment, *run]) == 0
    assert "search: best of 3 by hill_climbing" in capsys.readouterr().out
    lines = (tmp_path / "run" / "search" / "trials.jsonl").read_text().splitlines()
    settings, *trials = map(json.loads, lines)
    assert settings["settings"]["search"]["searcher_settings"] == {"probability": 0.5}
    parents = [trial["parents"] for trial in trials if trial["method"] == "hill_climbing"]
    assert len(parents) == 3


@pytest.mark.timeout(120)
def test_a_network_is_exported_measured_and_evaluated_by_the_runtime_of_a_package(
    installed: None, tiny_space: SearchSpace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arch = tiny_space.with_facts(num_keypoints=17).min_arch()
    torch.manual_seed(0)
    network = save_network(tmp_path / "network.safetensors", PoseNet(arch))
    exported = tmp_path / "network.example"
    assert main(["export", str(network), "-o", str(exported)]) == 0
    assert f"{exported}: example, fp32, compared with PyTorch" in capsys.readouterr().out

    write_arch(tmp_path / "arch.json", arch)
    timing = ["--latency", "--runtime", "example", "--max-spread", "1000", "--json"]
    assert main(["cost", str(tmp_path / "arch.json"), *timing]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["latency_ms"] > 0
    assert (found["key"]["runtime"], found["key"]["runtime_version"]) == ("example", "1.0")

    experiment = str(write_experiment(tmp_path, EXPERIMENT))
    run = ["--output", str(tmp_path / "run"), "--data-root", str(draw_people(tmp_path))]
    assert main(["evaluate", experiment, str(exported), *run, "--json"]) == 0
    assert "ap" in json.loads(capsys.readouterr().out)["coco"]
    example = importlib.import_module("vipnas_example")
    assert exported in example.OPENED


def test_wrong_names_and_settings_are_named_before_anything_runs(
    installed: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases: tuple[tuple[str, dict[str, Any], str], ...] = (
        (
            "hill_climbin",
            {},
            "search.searcher: expected one of evolution, nsga2, predictor, hill_climbing, got"
            " 'hill_climbin' (did you mean 'hill_climbing'?)",
        ),
        (
            "hill_climbing",
            {"steps": 3},
            "search.searcher_settings: expected one of the keys probability, got 'steps'",
        ),
        ("nsga2", {}, "searcher_settings: expected none with the searcher nsga2"),
    )
    for searcher, settings, message in cases:
        experiment = str(experiment_in(tmp_path, searcher, settings))
        assert main(["train-supernet", experiment]) == 1
        assert message in capsys.readouterr().err
    document = deepcopy(EXPERIMENT)
    document["search"]["latency"] = {"table": "none.json", "runtime": "example", "precision": "fp8"}
    assert main(["train-supernet", str(write_experiment(tmp_path, document))]) == 1
    assert "search.latency: precision: expected one of fp32 with example" in capsys.readouterr().err


def test_tables_list_a_package_without_importing_it(installed: None) -> None:
    assert "example" in RUNTIMES and "hill_climbing" in SEARCHERS
    assert list(RUNTIMES)[-1] == "example" and len(RUNTIMES) == len(list(RUNTIMES))
    assert "vipnas_example" not in sys.modules
    assert RUNTIMES["example"].name == "example"


def test_a_package_that_cannot_be_imported_or_takes_our_name(installed: None) -> None:
    broken = sys.path[0] + "/vipnas_example.py"
    Path(broken).write_text("import nothing_of_this_name\n")
    with pytest.raises(
        ValueError,
        match=r"vipnas.runtimes: example of vipnas-example: expected vipnas_example:RUNTIME to be"
        r" importable, got ModuleNotFoundError",
    ):
        RUNTIMES["example"]
    with pytest.raises(ValueError, match="example of .*: expected a new name, got one of vipnas"):
        list(OpenTable("vipnas.runtimes", {"example": 1}))


def test_two_packages_with_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("same", "package:ROW", "vipnas.runtimes")
    monkeypatch.setattr(tables, "_entry_points", lambda group, path: [entry, entry])
    with refused("entry point vipnas.runtimes: same", "a new name", "that of entry point"):
        list(OpenTable("vipnas.runtimes", {}))
