"""What rows of a study change and gain, by hand; shipped studies fit their experiments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tool_fixture import tool

from vipnas.arch.image import Arch
from vipnas.arch.io import read_arch
from vipnas.files import parse, read_yaml
from vipnas.shipped import find_shipped, shipped_directory

gains: Any = tool("benchmarks.gains")
study_rows: Any = tool("benchmarks.study_rows")
STUDIES = sorted(shipped_directory("experiments").glob("*/study*.yaml"))


def rows_of(file: Path, work: Path) -> dict[str, Any]:
    study = parse(study_rows.Study, read_yaml(file), str(file))
    base = file.parent / f"{study.experiment}.yaml"
    return {name: study_rows.Row(study, name, base, work, work) for name in study.rows}


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.parent.name)
def test_rows_of_shipped_studies_are_experiments(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, row in rows_of(file, tmp_path / "work").items():
        plain = row.settings()
        for stage in ("supernet", "retrain"):
            weights = plain.get(stage, {}).get("init_from", "scratch")
            if weights == "scratch":
                continue
            Path(weights).parent.mkdir(parents=True, exist_ok=True)
            Path(weights).touch()
        opened = row.experiment(seed=3)
        assert (opened.name, opened.config.seed) == (name, 3)
        assert opened.space.max_arch().input_hw == opened.space.input_hw


def test_a_row_has_the_changes_of_the_row_whose_network_it_trains(tmp_path: Path) -> None:
    base = tmp_path / "recipe.yaml"
    base.write_text(
        "space: tiny\ndata: {val_persons: 5, exif: ignore}\nretrain: {init_from: scratch}\n"
    )
    changes = {
        "data": {"val_persons": 9, "train": {"annotations": ["a.json", "{work}/b.json"]}},
        "retrain": {"init_from": "{work}/a.pt"},
    }
    rows = {
        "first": study_rows.RowSettings({"space": "quick", "data": {"val_persons": 7}}),
        "second": study_rows.RowSettings(changes, "first"),
    }
    study = study_rows.Study("recipe", rows)
    assert study_rows.Row(study, "second", base, Path("runs"), tmp_path).settings() == {
        "space": "quick",
        "data": {
            "val_persons": 9,
            "exif": "ignore",
            "train": {"annotations": ["a.json", "runs/b.json"]},
        },
        "retrain": {"init_from": "runs/a.pt"},
    }


def test_a_row_of_a_supernet_trains_that_once_and_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "work" / "lat_vipnas" / "supernet" / "supernet.safetensors"
    weights.parent.mkdir(parents=True)
    weights.touch()
    study = shipped_directory("experiments") / "gains" / "study.yaml"
    row = rows_of(study, tmp_path / "work")["longer"]
    trained: list[Path] = []
    monkeypatch.setattr(
        study_rows, "train_supernet", lambda level: trained.append(level.experiment.output)
    )
    monkeypatch.setattr(study_rows, "retrain", None)
    row.make(seed=0)
    assert trained == [tmp_path / "work" / "longer"]
    assert not row.done_seeds


def result(ap: float, draws: list[float], images: set[int]) -> Any:
    arch: Arch = read_arch(find_shipped("search_spaces", "published/s_vipnas_res50"))
    return gains.Result(arch, 10, ap, 0.5, 0.6, np.array(draws), frozenset(images))


def test_a_gain_is_the_mean_over_the_seeds_that_both_have() -> None:
    """Two common seeds gain 0.1 and 0.3; the draws gain 0.2 each."""
    reference = {0: result(0.2, [0.1, 0.3], {1}), 1: result(0.3, [0.3, 0.3], {2})}
    found = {
        0: result(0.3, [0.2, 0.5], {1}),
        1: result(0.6, [0.6, 0.5], {2}),
        2: result(0.9, [0.9, 0.9], {3}),
    }
    assert gains.gain_over(found, reference) == "+0.200 (+0.200 to +0.200)"
    assert gains.gain_over(reference, reference) == "-"


def test_rows_with_other_validation_images_are_not_compared() -> None:
    with pytest.raises(ValueError, match="seed 0: two rows have other validation images"):
        gains.gain_over({0: result(0.3, [0.2], {1})}, {0: result(0.3, [0.2], {2})})
