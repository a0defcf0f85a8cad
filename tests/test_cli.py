"""Bad input ends in one line on stderr, a non-zero exit code, and nothing half-written."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from experiment_fixture import EXPERIMENT, draw_people, files_below, write_experiment
from model_fixture import save_network, save_supernet
from spaces_fixture import INVERTED_YAML, space_from

from vipnas.arch.io import ARCH_VERSION, read_arch, write_arch
from vipnas.cli.main import main
from vipnas.models.posenet import PoseNet
from vipnas.pipeline.run_folder import RunFolder, done_file
from vipnas.shipped import find_shipped
from vipnas.space.yaml import read_space
from vipnas.training.checkpoint import save_checkpoint

Run = Callable[..., str]
TINY = read_space(find_shipped("search_spaces", "tiny"))


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_people(tmp_path_factory.mktemp("people"))


@pytest.fixture
def data_root(people: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(people, tmp_path / "data"))


@pytest.fixture
def fail(tmp_path: Path, data_root: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command that must fail; returns its one line."""

    def run(command: str, *more: str, **changes: Any) -> str:
        document = {**copy.deepcopy(EXPERIMENT), **changes}
        experiment = str(write_experiment(tmp_path, document))
        places = ["--output", str(tmp_path / "run"), "--data-root", str(data_root)]
        before = files_below(tmp_path)
        code = main([command, experiment, *places, "--device", "cpu", *more])
        captured = capsys.readouterr()
        assert code == 1, captured.out
        lines = captured.err.strip().splitlines()
        assert len(lines) == 1, captured.err
        assert lines[0].startswith(f"vipnas {command}: ")
        written = {name for name in files_below(tmp_path) if name not in before}
        assert {Path(name).name for name in written} <= {"seconds.json", ".lock"}, written
        return lines[0]

    return run


def changed(section: str, **changes: Any) -> dict[str, Any]:
    return {section: {**copy.deepcopy(EXPERIMENT[section]), **changes}}


VIDEO: dict[str, Any] = {
    "num_follow_ups": 1,
    "fusion": {"stages": [1]},
    "supernet": {"schedule": EXPERIMENT["retrain"]["schedule"]},
    "retrain": {"schedule": EXPERIMENT["retrain"]["schedule"]},
}


ONE_AT_A_TIME = {**EXPERIMENT["retrain"]["schedule"], "batch_size": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sed": 1}, "got 'sed' (did you mean 'seed'?)"),
        (
            {"seed": 10**30},
            "experiment.yaml: seed: expected a number less than 9223372036854775808, got 1",
        ),
        ({"seed": "one"}, "experiment.yaml: seed: expected a valid integer, got 'one'"),
        (
            changed("search", num_trials=0),
            "search.num_trials: expected a number greater than",
        ),
        (changed("data", val_person=4), "got 'val_person' (did you mean 'val_persons'?)"),
        (changed("data", search_persons=4), "got 'search_persons' (renamed: use val_persons)"),
        (changed("data", train=None), "data: expected exactly one of synthetic"),
        ({"space": "tinny"}, "experiment.yaml: space: expected a file, or one of search_spaces/: "),
        (
            {"input_hw": [65, 48]},
            "tiny: input_hw: expected multiples of 8, the total strid",
        ),
        (
            changed("data", val_persons=9999),
            "annotations.json: data.val_persons: ",
        ),
        (
            {"input_hw": [8, 8], **changed("retrain", schedule=ONE_AT_A_TIME)},
            "retrain.schedule.batch_size: expected 2 or more images at a time for batch norm, got 1"
            " (the last stage sees 1 x 1 pixel of input_hw [8, 8])",
        ),
        (
            {
                "input_hw": [8, 8],
                **changed("data", calibration_persons=5),
                "evaluation_batch_size": 4,
            },
            "data.calibration_persons, in the last batch: expected 2 or more images at a time",
        ),
    ],
)
def test_an_experiment_that_is_wrong(fail: Run, changes: dict[str, Any], message: str) -> None:
    assert fail("train-supernet", **changes).count(message) == 1


def test_a_missing_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "quickstrat"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "quickstrat: expected a file, or one of experiments/: " in line
    assert "(did you mean 'quickstart'?)" in line


def test_a_space_with_a_width_that_a_group_count_does_not_divide(fail: Run, tmp_path: Path) -> None:
    text = (
        find_shipped("search_spaces", "tiny").read_text().replace("groups: [1, 2]", "groups: [3]")
    )
    path = tmp_path / "space.yaml"
    path.write_text(text)
    message = fail("train-supernet", space=str(path))
    assert f"{path}: stages[0].groups: expected a divisor of 8 channels, got 3" in message


def saved_supernet(tmp_path: Path, hw: tuple[int, int] | None = None) -> Path:
    path = tmp_path / "run" / "supernet" / "supernet.safetensors"
    save_supernet(path, TINY.with_facts(hw))
    RunFolder(tmp_path / "run").mark_done(path, {})
    return path


def test_a_budget_out_of_reach_and_budgets_that_contradict(fail: Run, tmp_path: Path) -> None:
    saved_supernet(tmp_path)
    budget = [{"quantity": "macs", "at_most": 1000}]
    message = fail("search", **changed("search", constraints=budget))
    assert "experiment.yaml: search: constraint macs: at_most: expected at least 4" in message
    assert "got 1,000 (" in message
    budget = [{"quantity": "mac", "at_most": 1000}]
    message = fail("search", **changed("search", constraints=budget))
    assert "search.constraints[0].quantity: expected one of macs, params, latency_ms, g" in message


def test_a_search_without_a_supernet(fail: Run) -> None:
    assert (
        "supernet.safetensors: expected a supernet, got none (run `vipnas train-supernet` first)"
        in fail("search")
    )


def test_missing_data(fail: Run, data_root: Path) -> None:
    (data_root / "train" / "annotations.json").unlink()
    assert f"{data_root / 'train' / 'annotations.json'}: " in fail("train-supernet")


def first_image(data_root: Path) -> Path:
    return min((data_root / "train" / "images").iterdir())


def test_a_missing_and_a_truncated_image_are_named(fail: Run, data_root: Path) -> None:
    image = first_image(data_root)
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    message = fail("train-supernet")
    assert str(image) in message and "--skip-bad-images" in message
    image.unlink()
    message = fail("train-supernet")
    assert str(image) in message and "--skip-bad-images" in message


def test_annotations_without_keypoints(fail: Run, data_root: Path) -> None:
    path = data_root / "train" / "annotations.json"
    document = json.loads(path.read_text())
    for annotation in document["annotations"]:
        del annotation["keypoints"]
    path.write_text(json.dumps(document))
    message = fail("train-supernet")
    assert str(path) in message and "keypoints" in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected valid JSON"),
        ('{"version": 9, "arch": {}}', f"version: expected {ARCH_VERSION} or lower, got 9"),
    ],
)
def test_a_spoilt_arch_file(fail: Run, tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "arch.json"
    path.write_text(content)
    assert f"{path}: {message}" in fail("retrain", "--arch", str(path))


def test_an_arch_of_another_space(fail: Run, tmp_path: Path) -> None:
    path = str(find_shipped("search_spaces", "published/s_vipnas_res50"))
    expected = f"{path}: input_hw: expected (64, 48), got (256, 192) (not in the space tiny; also: "
    assert expected in fail("retrain", "--arch", path)


def test_a_missing_arch(fail: Run, tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    message = fail("retrain", "--arch", str(path))
    assert f"{path}: expected a file, or one of search_spaces/: " in message


def test_what_is_missing_is_said_before_data_are_drawn(fail: Run, tmp_path: Path) -> None:
    synthetic = {"num_train_images": 1, "num_test_images": 1}
    drawn = {"data": {"synthetic": synthetic, "val_persons": 1}}
    message = fail("retrain", **drawn)
    assert "(run `vipnas search` first or give --arch)" in message
    smallest, weights = tmp_path / "smallest.json", tmp_path / "none.safetensors"
    write_arch(smallest, TINY.min_arch())
    assert "space: expected a file, or one of" in fail("train-supernet", space="tinny", **drawn)
    assert "supernet: expected a section of the experiment" in fail(
        "train-supernet", supernet=None, **drawn
    )
    sampling = changed("supernet", sampling={"macs_between": [1, 2]})
    started = changed("supernet", init_from=str(weights))
    for command in ("train-supernet", "run"):
        assert "macs_between: expected a range that overlaps" in fail(command, **sampling, **drawn)
        assert f"{weights}: expected a checkpoint, got no such file" in fail(
            command, **started, **drawn
        )
    begun = ("retrain", "--arch", str(smallest))
    assert f"{weights}: expected a checkpoint, got no such file" in fail(
        *begun, "--init-from", str(weights), **drawn
    )
    from_supernet = changed("retrain", init_from="supernet")
    message = fail(*begun, **drawn, **from_supernet)
    assert (
        "supernet.safetensors: expected a supernet, got none (run `vipnas train-supernet` first)"
        in message
    )


@pytest.mark.parametrize("command", ["cost", "profile"])
def test_a_space_is_no_arch_and_an_arch_no_space(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = {"cost": ["tiny"], "profile": ["published/s_vipnas_mbv3"]}[command]
    assert main([command, *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    known = line.partition("search_spaces/: ")[2].partition(", got ")[0]
    assert ("tiny" in known) == (command == "profile") != ("published/s_vipnas_mbv3" in known)


def test_the_action_of_video_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = str(write_experiment(tmp_path, copy.deepcopy(EXPERIMENT)))
    assert main(["video", "search", experiment, "--device", "cpu"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("vipnas video search: ")
    assert "experiment.yaml: video: expected a section of the experiment" in line


def test_weights_of_another_arch(fail: Run, tmp_path: Path) -> None:
    largest, weights = tmp_path / "largest.json", tmp_path / "small.safetensors"
    write_arch(largest, TINY.max_arch())
    inverted = space_from(INVERTED_YAML, tmp_path, "inverted")
    save_network(weights, PoseNet(inverted.min_arch()))
    begun = ("retrain", "--arch", str(largest), "--init-from", str(weights))
    message = fail(*begun, **changed("search", constraints=[]))
    assert f"{weights}: arch.family: expected residual, got inverted_residual" in message
    save_network(weights, PoseNet(TINY.min_arch()))
    message = fail("evaluate", str(weights), "--arch", str(largest))
    assert f"{weights}: arch.stages: expected (" in message


def test_weights_for_another_input_size(fail: Run, tmp_path: Path) -> None:
    weights = saved_supernet(tmp_path, (96, 72))
    assert f"{weights}: arch.input_hw: expected (64, 48), got (96, 72)" in fail("search")
    message = fail("evaluate", str(weights))
    assert f"{weights}: input_hw: expected (64, 48) of the crops, got (96, 72)" in message


@pytest.mark.parametrize("content", [b"", b"hello\n", b"PK\x03\x04 half a file"])
def test_weights_that_are_none(fail: Run, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "network.safetensors"
    path.write_bytes(content)
    assert f"{path}: expected a readable model file" in fail("evaluate", str(path))
    path = path.with_suffix(".pth")
    path.write_bytes(content)
    assert f"{path}: expected a checkpoint of tensors" in fail("evaluate", str(path))


def test_weights_of_the_first_version_are_refused(fail: Run, tmp_path: Path) -> None:
    path, network = tmp_path / "network.pt", PoseNet(TINY.min_arch())
    content = {"arch": network.arch.to_json(), "network": network.state_dict()}
    save_checkpoint(path, {**content, "found": {}})
    message = fail("evaluate", str(path))
    assert f"{path}: expected a model file (.safetensors), an exported file or" in message


@pytest.mark.parametrize("device", ["gpu7", "xla", "cuda:99"])
def test_a_device_that_is_none(fail: Run, device: str) -> None:
    assert f"--device: expected a device of this machine, got {device} (" in fail(
        "train-supernet", "--device", device
    )


def test_a_retraining_of_other_settings_than_those_begun(fail: Run, tmp_path: Path) -> None:
    supernet = saved_supernet(tmp_path)
    done_file(supernet).unlink()
    assert f"{supernet}: expected done.json beside it" in fail("train-supernet", seed=5)
    RunFolder(tmp_path / "run").mark_done(supernet, {"seed": 0})
    message = fail("train-supernet", seed=5)
    assert "done.json: augmentation: expected null, got " in message
    assert "choose another --output" in message


def test_cost_of_a_shipped_arch(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["cost", "published/s_vipnas_res50", "--json"]) == 0
    expected = {"macs": 1_464_409_440, "params": 7_286_772, "latency_ms": None}
    assert json.loads(capsys.readouterr().out) == expected
    arch = read_arch(find_shipped("search_spaces", "published/s_vipnas_res50"))
    path = tmp_path / "arch.json"
    write_arch(path, replace(arch, num_keypoints=1))
    assert main(["cost", str(path)]) == 0
    assert "MMACs" in capsys.readouterr().out
    assert main(["cost", "published/s_vipnas_res5"]) == 1


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError("5 GB"), "vipnas cost: not enough memory: 5 GB\n"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: 5 bytes\nframe #0"),
            "vipnas cost: not enough memory: DefaultCPUAllocator: can't allocate memory: 5 bytes\n",
        ),
        (RuntimeError("a bug"), None),
    ],
)
def test_too_little_memory_is_one_line_and_a_bug_is_a_bug(
    error: Exception,
    line: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(arch: object) -> None:
        raise error

    monkeypatch.setattr("vipnas.models.counting.count_cost", fails)
    command = ["cost", "published/s_vipnas_res50"]
    if line is None:
        with pytest.raises(RuntimeError, match="a bug"):
            main(command)
        return
    assert main(command) == 1
    assert capsys.readouterr().err == line


def test_names_that_stand_for_no_file_are_those_of_a_setting(fail: Run) -> None:
    message = fail("inspect-data", skeleton="*")
    assert "experiment.yaml: skeleton: expected a file or a shipped skeleton, got '*'" in message
    message = fail("inspect-data", space="tinny")
    assert "experiment.yaml: space: expected a file, or one of search_spaces/" in message
    assert "did you mean 'tiny'?" in message


def test_an_empty_name_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", ""]) == 1
    assert capsys.readouterr().err.startswith("vipnas cost: '': expected a file, or one of")


def test_a_model_whose_heatmaps_are_not_finite_is_named(fail: Run, tmp_path: Path) -> None:
    network = PoseNet(TINY.min_arch())
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))
    path = tmp_path / "spoiled.safetensors"
    save_network(path, network)
    message = fail("evaluate", str(path))
    assert f"{path}: expected finite heatmaps, got others" in message
