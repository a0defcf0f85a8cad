"""Category ids of the annotation file in results and scores; pycocotools is the judge."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from experiment_fixture import EXPERIMENT
from pycocotools_fixture import by_pycocotools

from vipnas.cli.main import main
from vipnas.data.formats.coco import read_coco
from vipnas.data.formats.results import keypoint_results, write_results
from vipnas.data.formats.skeletons import COCO_17
from vipnas.evaluation.coco_ap import coco_metrics

Results = list[dict[str, Any]]


def ap_of_pycocotools(annotations: Path, results: Results, merged: bool = False) -> float:
    """Its AP; for merged categories, of copies in which all are of one category."""
    document, results = json.loads(annotations.read_text()), copy.deepcopy(results)
    if merged:
        document["categories"] = document["categories"][:1]
        for entry in (*document["annotations"], *results):
            entry["category_id"] = document["categories"][0]["id"]
    return by_pycocotools(document, results)[0]


@pytest.fixture
def of_category_3(tiny_coco: Any) -> Any:
    """The data set with all people in category 3, large enough to be scored."""
    tiny_coco.document["categories"][0]["id"] = 3
    for entry in tiny_coco.document["annotations"]:
        entry.update(category_id=3, area=2000.0)
    tiny_coco.write()
    return tiny_coco


def found(tiny_coco: Any) -> Results:
    """Everybody, the joints some pixels off."""
    rng = np.random.default_rng(0)
    results = []
    for entry in tiny_coco.document["annotations"]:
        keypoints_K3 = np.array(entry["keypoints"], np.float64).reshape(-1, 3)
        keypoints_K3[:, :2] += rng.normal(0, rng.choice([1, 3, 6]), (17, 2))
        results.append(
            {
                "image_id": entry["image_id"],
                "category_id": entry["category_id"],
                "keypoints": keypoints_K3.ravel().tolist(),
                "score": float(rng.random()),
            }
        )
    return results


def evaluate(tiny_coco: Any, results: Results, **data: Any) -> int:
    """`vipnas evaluate --from-results` on the file for training and test."""
    folder = tiny_coco.annotation_file.parent
    files = {"annotations": "people.json", "images": "images"}
    section = {"train": files, "test": files, "val_persons": 4, **data}
    experiment = folder / "experiment.yaml"
    experiment.write_text(yaml.safe_dump({**EXPERIMENT, "data": section}))
    write_results(folder / "results.json", results)
    arguments = ["evaluate", str(experiment), "--data-root", str(folder), "--json"]
    return main([*arguments, "--from-results", str(folder / "results.json"), "--metrics", "coco"])


def test_results_of_the_files_category_score_without_an_image(
    of_category_3: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(6):
        of_category_3.image_path(number).unlink()
    results = found(of_category_3)
    assert evaluate(of_category_3, results) == 0
    ap = json.loads(capsys.readouterr().out)["coco"]["ap"]
    assert ap == ap_of_pycocotools(of_category_3.annotation_file, results)
    assert 0.2 < ap < 0.9


def test_results_of_other_categories_are_counted_or_refused(
    of_category_3: Any, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    results = found(of_category_3)
    for result in results[:4]:
        result["category_id"] = 1
    assert evaluate(of_category_3, results) == 0
    ap = json.loads(capsys.readouterr().out)["coco"]["ap"]
    assert ap == ap_of_pycocotools(of_category_3.annotation_file, results)
    assert "4 of 12 results left out: not 3 (person)" in caplog.text
    for result in results:
        result["category_id"] = 1
    assert evaluate(of_category_3, results) == 1
    error = capsys.readouterr().err
    assert "results.json: category_id: expected 3 (person) as in" in error
    assert error.endswith("people.json, got 1\n")


def test_results_that_we_write_have_the_category_of_the_file(of_category_3: Any) -> None:
    data = read_coco(of_category_3.annotation_file, of_category_3.image_root, COCO_17)
    xy_NK2 = np.stack([person.keypoints_K3[:, :2] for person in data.persons])
    results = keypoint_results(data.persons, xy_NK2, np.ones((12, 17)))
    assert {result["category_id"] for result in results} == {3}
    assert ap_of_pycocotools(of_category_3.annotation_file, results) == 1
    assert coco_metrics(data.ground_truth, results, COCO_17).ap == 1


def test_merged_categories_are_scored_as_one(
    of_category_3: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    document = of_category_3.document
    document["categories"].append({**document["categories"][0], "id": 18, "name": "dog"})
    for entry in document["annotations"][::2]:
        entry["category_id"] = 18
    of_category_3.write()
    results = found(of_category_3)
    for result in results[:3]:  # a dog that is called a person is found, too
        result["category_id"] = 3
    assert evaluate(of_category_3, results, categories=["person", "dog"]) == 0
    ap = json.loads(capsys.readouterr().out)["coco"]["ap"]
    assert ap == ap_of_pycocotools(of_category_3.annotation_file, results, merged=True)
    assert ap != ap_of_pycocotools(of_category_3.annotation_file, results)
    assert evaluate(of_category_3, results) == 1
    assert "data.categories: [NAME, ...] chooses and merges" in capsys.readouterr().err


@pytest.mark.parametrize("names", [[], ["dog", "dog"]])
def test_categories_are_named_once(
    of_category_3: Any, names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(of_category_3, found(of_category_3), categories=names) == 1
    assert "data.categories: expected names of categories of train" in capsys.readouterr().err
