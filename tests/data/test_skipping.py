"""`--skip-bad-images`: what is skipped is skipped everywhere, and listed at the end."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from experiment_fixture import EXPERIMENT, write_experiment

from vipnas.cli.main import main
from vipnas.data.crops.crops import fixed_crops
from vipnas.data.formats.coco import PoseData, read_coco
from vipnas.data.formats.reading import Reading
from vipnas.data.formats.results import read_results
from vipnas.data.formats.skeletons import COCO_17
from vipnas.data.formats.splits import hold_out
from vipnas.evaluation.protocols import score

END = b"\xff\xd9"


def replace_by_text(path: Path) -> None:
    path.write_text("<html>404</html>")


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3] + END)


def zero(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-300] + bytes(100) + data[-200:])


SPOIL: list[Callable[[Path], object]] = [replace_by_text, cut, zero, Path.unlink]


def read(tiny_coco: Any, skip: bool = True) -> PoseData:
    return read_coco(tiny_coco.write(), tiny_coco.image_root, COCO_17, Reading(skip))


def perfect_results(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {key: entry[key] for key in ("image_id", "category_id", "keypoints")} | {"score": 1.0}
        for entry in document["annotations"]
    ]


@pytest.mark.parametrize("spoil", SPOIL, ids=lambda spoil: spoil.__name__)
def test_skipped_images_are_in_no_part_of_the_data(
    tiny_coco: Any, spoil: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    path = tiny_coco.image_path(2)  # three persons
    spoil(path)
    data = read(tiny_coco)
    assert data.skipped_images.keys() == {114}
    assert data.skipped_images[114].startswith(f"{path}: ")
    ids = {image["id"] for image in data.ground_truth["images"]}
    assert ids == {person.image_id for person in data.persons} == {100, 107, 121, 128, 135}
    assert {entry["image_id"] for entry in data.ground_truth["annotations"]} == ids
    logged = [vars(record)["skipped_image"] for record in caplog.records]
    assert logged == [data.skipped_images[114]]
    for part in hold_out(data, 3, seed=0):
        assert len(fixed_crops(part.persons, COCO_17, (64, 48))) == len(part.persons)


def test_results_for_skipped_images_are_read(tiny_coco: Any, tmp_path: Path) -> None:
    tiny_coco.image_path(2).unlink()
    path = tmp_path / "results.json"
    results = perfect_results(tiny_coco.document)
    path.write_text(json.dumps(results))
    assert read_results(path, COCO_17, read(tiny_coco)) == results
    path.write_text(json.dumps([*results, {**results[0], "image_id": 7}]))
    with pytest.raises(ValueError, match="result 12: image_id: expected the id of an image of"):
        read_results(path, COCO_17, read(tiny_coco))


def test_skipped_persons_are_not_scored_as_missed(tiny_coco: Any) -> None:
    cut(tiny_coco.image_path(2))
    results = perfect_results(tiny_coco.document)
    data = read(tiny_coco)
    everybody = score(data, results, ["coco"])["coco"]  # results for skipped images do not count
    others = [result for result in results if result["image_id"] != 114]
    assert everybody == score(data, others, ["coco"])["coco"]
    assert everybody.ap == pytest.approx(1.0)


@pytest.mark.parametrize("skip", [True, False])
def test_all_images_bad_is_one_line(tiny_coco: Any, skip: bool) -> None:
    for number in range(6):
        replace_by_text(tiny_coco.image_path(number))
    with pytest.raises(ValueError) as caught:
        read(tiny_coco, skip)
    reason = f"image 100: {tiny_coco.image_path(0)}: expected an image, got a file that cannot be "
    expected = (
        f"images: expected at least one that can be used, got 6 bad ones of 6 ({reason}decoded)"
        if skip
        else f"{reason}decoded (6 such of 6 images; --skip-bad-images leaves them out)"
    )
    assert str(caught.value) == f"{tiny_coco.annotation_file}: {expected}"


@pytest.fixture
def run(tiny_coco: Any, tmp_path: Path) -> Callable[..., int]:
    """Run a command on the six images, as training set and as test set."""
    document = copy.deepcopy(EXPERIMENT)
    files = {"annotations": "people.json", "images": "images"}
    document["data"] |= {"train": files, "test": files, "val_persons": 2}
    tiny_coco.write()
    experiment = str(write_experiment(tmp_path, document))

    def run_command(command: str, *more: str) -> int:
        places = ["--data-root", str(tmp_path), "--output", str(tmp_path / "run")]
        return main([command, experiment, *places, "--device", "cpu", *more])

    return run_command


def test_inspect_data_leaves_out_and_lists(
    run: Callable[..., int], tiny_coco: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, spoil in ((2, cut), (5, zero)):
        spoil(tiny_coco.image_path(number))
    sheet = ["--split", "test", "--sheet", str(tmp_path / "sheet.png")]
    assert run("inspect-data", *sheet) == 1
    assert "a damaged JPEG" in capsys.readouterr().err
    assert not (tmp_path / "sheet.png").exists()
    assert run("inspect-data", *sheet, "--skip-bad-images") == 0
    captured = capsys.readouterr()
    assert "images: 4, of them 4 with labelled persons" in captured.out
    assert "contact sheet of 6 persons" in captured.out
    head, first, second = captured.err.splitlines()[-3:]
    assert head == "vipnas inspect-data: 2 bad images left out:"
    assert first.startswith(
        f"  {tiny_coco.image_path(2)}: expected a whole image, got a damaged JPEG ("
    )
    assert second.startswith(
        f"  {tiny_coco.image_path(5)}: expected a whole image, got a damaged JPEG ("
    )


def test_evaluate_counts_nobody_in_a_skipped_image(
    run: Callable[..., int], tiny_coco: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results.json"
    results.write_text(json.dumps(perfect_results(tiny_coco.document)))
    cut(tiny_coco.image_path(2))
    options = ["--from-results", str(results), "--metrics", "coco", "--json"]
    assert run("evaluate", *options, "--skip-bad-images") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["coco"]["ap"] == pytest.approx(1.0)
    assert captured.err.splitlines()[-2] == "vipnas evaluate: 1 bad images left out:"
