"""The door that every model comes through, and predictions in Python."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from experiment_fixture import EXPERIMENT, draw_people, write_experiment
from model_fixture import header_of_arch, header_of_space, save_network, save_supernet, skeleton_of
from networks_fixture import of_one_stage, randomise_batch_norm
from torch import Tensor

import vipnas
from vipnas.arch.io import write_arch
from vipnas.cli.main import main
from vipnas.data.codecs.heatmap import make_codec
from vipnas.data.crops.crops import fixed_crops
from vipnas.data.crops.images import read_image
from vipnas.data.formats.coco import read_coco
from vipnas.data.formats.skeletons import COCO_17
from vipnas.deploy.export import Form, export_network
from vipnas.deploy.loading import Facts, load
from vipnas.deploy.model import PoseModel
from vipnas.evaluation.evaluator import Evaluator
from vipnas.evaluation.subnets import Calibration, take_subnet
from vipnas.models.counting import count_cost
from vipnas.models.file import read_header, read_network, write_model
from vipnas.models.header import BatchNorm
from vipnas.models.posenet import PoseNet
from vipnas.models.published import save_published
from vipnas.runtimes.exported import HEADER_NOTE
from vipnas.shipped import find_shipped
from vipnas.space.image import SearchSpace
from vipnas.space.yaml import read_space

pytestmark = pytest.mark.usefixtures("onnx_operators")

TINY = read_space(find_shipped("search_spaces", "tiny"))
SMALL = of_one_stage(TINY.min_arch())


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_people(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="module")
def network() -> PoseNet:
    torch.manual_seed(0)
    network = PoseNet(SMALL).eval()
    randomise_batch_norm(network, seed=0)
    return network


@pytest.fixture
def model_file(network: PoseNet, tmp_path: Path) -> Path:
    return save_network(tmp_path / "network.safetensors", network)


def crops(count: int = 6, hw: tuple[int, int] = TINY.input_hw) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, *hw), dtype=torch.uint8, generator=generator)


CALIBRATION = Calibration(crops, 4, COCO_17, "six crops")


# --- predictions


@pytest.mark.parametrize("flip_test", [True, False])
@pytest.mark.parametrize("codec", ["quarter", "dark", "udp"])
def test_it_finds_what_the_evaluation_finds(
    people: Path, network: PoseNet, tmp_path: Path, codec: Any, flip_test: bool
) -> None:
    data = read_coco(people / "test" / "annotations.json", people / "test" / "images", COCO_17)
    path = data.persons[0].image_path
    persons = [person for person in data.persons if person.image_path == path]
    rule = make_codec(codec, network.arch.input_hw, network.arch.heatmap_hw)
    cut = fixed_crops(persons, COCO_17, network.arch.input_hw, span_hw=rule.span_hw)
    xy, scores = Evaluator(cut, {}, COCO_17, rule, flip_test=flip_test).predict(network)

    header = header_of_arch(network.arch)
    shift = replace(header.input, flip_shift=rule.shift_flipped)
    file = tmp_path / "network.safetensors"
    write_model(file, network, replace(header, codec=codec, input=shift))
    boxes = [(x, y, x + w, y + h) for x, y, w, h in (person.box_xywh for person in persons)]
    image = read_image(path)
    for given, bgr in ((image, False), (image[..., ::-1], True)):
        poses = load(file, flip_test=flip_test).predict(given, boxes, bgr=bgr)
        assert np.array_equal(poses.keypoints, xy) and np.array_equal(poses.scores, scores)
    assert len(poses) == len(persons) and np.array_equal(poses.image, image)


def test_without_boxes_the_whole_image_is_one(model_file: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 60, 3), np.uint8)
    model = vipnas.load(model_file)
    whole, boxed = model.predict(image), model.predict(image, [(0, 0, 60, 90)])
    assert np.array_equal(whole.keypoints, boxed.keypoints)
    assert whole.boxes_xyxy.tolist() == [[0, 0, 60, 90]]
    (result,) = whole.to_coco(image_id=7)
    assert result["image_id"] == 7
    assert np.array(result["keypoints"]).reshape(17, 3)[:, :2] == pytest.approx(whole.keypoints[0])
    assert whole.plot(min_score=-1e9).shape == image.shape
    assert np.array_equal(whole.plot(min_score=1e9), image)
    assert (whole.plot(min_score=-1e9) != image).any()
    none = model.predict(image, [])
    assert none.keypoints.shape == (0, 17, 2) and none.scores.shape == (0, 17)
    assert none.to_coco() == []


@pytest.mark.parametrize(
    ("image", "boxes", "message"),
    [
        (np.zeros((8, 8, 3), np.float32), None, "image: expected a uint8 array"),
        (np.zeros((8, 8), np.uint8), None, "image: expected a uint8 array"),
        (np.zeros((8, 8, 4), np.uint8), None, r"image: expected \(H, W, 3\), got \(8, 8, 4\)"),
        (np.zeros((8, 8, 3), np.uint8), [1, 2, 3, 4], r"boxes_xyxy: expected \(N, 4\), got \(4,\)"),
        (np.zeros((8, 8, 3), np.uint8), [(0, 0, 0, 4)], r"boxes_xyxy\[0\]: expected left < right"),
        (
            np.zeros((8, 8, 3), np.uint8),
            [(0, 0, 4, 4), (0, 0, np.nan, 4)],
            r"boxes_xyxy\[1\]: expected left < right",
        ),
    ],
)
def test_images_and_boxes_of_another_form(
    model_file: Path, image: Any, boxes: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load(model_file).predict(image, boxes)


# --- supernets


@pytest.fixture
def supernet_file(tmp_path: Path) -> Path:
    path = save_supernet(tmp_path / "supernet.safetensors", TINY)
    network, header = read_network(path)
    randomise_batch_norm(network, seed=0)
    write_model(path, network, header)
    return path


@pytest.mark.parametrize("arch", [None, TINY.max_arch(), TINY.min_arch()])
def test_a_subnet_is_calibrated_or_refused(supernet_file: Path, arch: Any) -> None:
    with pytest.raises(ValueError, match="supernet.safetensors: expected --experiment FILE"):
        load(supernet_file, arch)
    model = load(supernet_file, arch, calibration=CALIBRATION)
    wanted = arch or TINY.max_arch()
    taken = take_subnet(read_network(supernet_file)[0], TINY, wanted, crops(), 4, "file")
    found = model.pose_net().state_dict()
    assert all(torch.equal(found[name], t) for name, t in taken.state_dict().items())
    header = replace(header_of_arch(wanted), batch_norm=BatchNorm(True, "six crops"))
    assert model.header == header


def test_what_is_wrong_with_a_subnet_is_said_before_crops_are_read(supernet_file: Path) -> None:
    def never() -> Tensor:
        raise AssertionError("the crops were read")

    calibration = replace(CALIBRATION, images=never)
    stranger = replace(TINY.min_arch(), num_keypoints=13)
    for given in (None, calibration):
        with pytest.raises(ValueError, match=r"num_keypoints: expected 17, got 13 \(not in the"):
            load(supernet_file, stranger, calibration=given)
    other = replace(calibration, skeleton=replace(COCO_17, joints=COCO_17.joints[::-1]))
    with pytest.raises(ValueError, match=r"supernet.safetensors: joints\[0\]: expected"):
        load(supernet_file, calibration=other)
    with pytest.raises(ValueError, match=r"input_hw: expected \(32, 32\) of the crops, got"):
        load(supernet_file, calibration=replace(calibration, images=lambda: crops(2, (32, 32))))


def test_a_network_that_is_not_calibrated_is_no_better(network: PoseNet, tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    header = replace(header_of_arch(network.arch), batch_norm=BatchNorm(False))
    write_model(path, network, header)
    with pytest.raises(ValueError, match="expected --experiment FILE"):
        load(path)
    model = load(path, calibration=CALIBRATION)
    assert model.header.batch_norm == BatchNorm(True, "six crops")
    norm = "layers.stem.norm.running_mean"
    assert not torch.equal(model.pose_net().state_dict()[norm], network.state_dict()[norm])


@pytest.mark.timeout(120)
def test_an_exported_subnet_scores_as_the_evaluation_says(
    supernet_file: Path, people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Uncalibrated it had AP 0.001 where `evaluate` said 0.211."""
    document = {**EXPERIMENT, "data": {**EXPERIMENT["data"], "calibration_persons": 6}}
    experiment = str(write_experiment(tmp_path, document))
    write_arch(tmp_path / "arch.json", TINY.min_arch())
    arch = ["--arch", str(tmp_path / "arch.json")]
    exported, model = str(tmp_path / "pose.onnx"), str(supernet_file)
    assert main(["export", model, *arch, "-o", exported]) == 1
    assert "expected --experiment FILE" in capsys.readouterr().err
    data = ["--data-root", str(people)]
    assert main(["export", model, *arch, "-o", exported, "--experiment", experiment, *data]) == 0
    capsys.readouterr()
    run = [*data, "--output", str(tmp_path / "run"), "--device", "cpu", "--results"]
    found = []
    for number, measured in enumerate(([model, *arch], [exported])):
        results = tmp_path / f"{number}.json"
        assert main(["evaluate", experiment, *measured, *run, str(results)]) == 0
        entries = json.loads(results.read_text())
        found.append(np.array([entry["keypoints"] for entry in entries]).reshape(-1, 17, 3))
    near = np.abs(found[0] - found[1])[..., :2].max(axis=2) < 0.1
    assert near.mean() > 0.95  # else two pixels are as high as each other
    assert found[0][..., 2] == pytest.approx(found[1][..., 2], rel=1e-3, abs=1e-5)


# --- other files


def test_a_published_checkpoint_has_the_facts_of_the_recipe(
    network: PoseNet, tmp_path: Path
) -> None:
    path = tmp_path / "released.pth"
    save_published(path, network, header_of_arch(network.arch))
    ours = load(path)
    assert ours.header == header_of_arch(network.arch)
    with pytest.raises(ValueError, match="released.pth: --codec: expected no such option"):
        load(path, facts=Facts(codec="udp"))
    assert load(path, facts=Facts(codec="udp", fallback=True)).header.codec == "quarter"
    content = torch.load(path, weights_only=True)
    torch.save({"state_dict": content["state_dict"]}, path)
    with pytest.raises(ValueError, match="expected --arch FILE, got none"):
        load(path)
    released = load(path, network.arch)
    assert (released.header.codec, released.header.sigma_px) == ("quarter", 2.0)
    assert released.skeleton == COCO_17 and released.header.batch_norm.calibrated
    given = Facts("dark", 1.5, "coco_17", fallback=True)
    header = load(path, network.arch, facts=given).header
    assert (header.codec, header.sigma_px) == ("dark", 1.5)
    images = np.random.default_rng(0).integers(0, 256, (90, 60, 3), np.uint8)
    wanted = ours.predict(images)
    assert np.array_equal(released.predict(images).keypoints, wanted.keypoints)


def test_a_checkpoint_of_other_joints_needs_its_skeleton(tmp_path: Path) -> None:
    arch = TINY.with_facts(num_keypoints=3).min_arch()
    path = tmp_path / "released.pth"
    save_published(path, PoseNet(arch), header_of_arch(arch))
    torch.save({"state_dict": torch.load(path, weights_only=True)["state_dict"]}, path)
    with pytest.raises(ValueError, match="released.pth: expected --skeleton, got none"):
        load(path, arch)
    with pytest.raises(ValueError, match="--skeleton: expected one of 3 joints, got coco_17 of 17"):
        load(path, arch, facts=Facts(skeleton="coco_17"))


@pytest.fixture(scope="module")
def plain(network: PoseNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In ONNX, from normalised images to heatmaps."""
    path = tmp_path_factory.mktemp("plain") / "pose.onnx"
    export_network(network, path, Form(), crops(), header_of_arch(network.arch))
    return path


@pytest.mark.timeout(120)
@pytest.mark.parametrize("whole", [False, True])
def test_an_exported_file_has_the_same_predictions(
    network: PoseNet, plain: Path, tmp_path: Path, whole: bool
) -> None:
    header, path = header_of_arch(network.arch), plain
    if whole:
        path = tmp_path / "pose.onnx"
        codec = make_codec("quarter", network.arch.input_hw, network.arch.heatmap_hw)
        form = Form(with_preprocessing=True, decode=codec)
        export_network(network, path, form, crops(), header)
    exported = load(path)
    assert exported.header == header
    images = np.random.default_rng(0).integers(0, 256, (90, 60, 3), np.uint8)
    boxes = [(0, 0, 60, 90), (10, 20, 50, 80)]
    # In a file that decodes by itself, heatmaps cannot be averaged with those of the mirror image.
    wanted = PoseModel(network, header, path, flip_test=not whole).predict(images, boxes)
    found = exported.predict(images, boxes)
    assert found.scores == pytest.approx(wanted.scores, rel=1e-3, abs=1e-5)
    near = np.abs(found.keypoints - wanted.keypoints).max(axis=2) < 0.1
    assert near.mean() > 0.9  # else two pixels are as high as each other
    with pytest.raises(ValueError, match="pose.onnx: expected weights, got an exported file"):
        exported.pose_net()
    with pytest.raises(ValueError, match="pose.onnx: --skeleton: expected no such option"):
        load(path, facts=Facts(skeleton="coco_17"))
    with pytest.raises(
        ValueError,
        match="pose.onnx: arch.stages: expected",
    ):
        load(path, TINY.max_arch())


@pytest.mark.timeout(120)
def test_an_exported_file_that_cannot_say_needs_all_facts(plain: Path, tmp_path: Path) -> None:
    """A guess (`quarter`, 2.0) was wrong by up to 7 pixels without a word."""
    path = tmp_path / "pose.onnx"
    model = onnx.load(plain)
    notes = {note.key: note.value for note in model.metadata_props if note.key != HEADER_NOTE}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, notes)
    onnx.save(model, path)
    facts: dict[str, Any] = {}
    for name, value in (("codec", "dark"), ("sigma_px", 1.5), ("skeleton", "coco_17")):
        option = f"--{name.replace('_', '-')}"
        with pytest.raises(ValueError, match=f"expected {option}, got none .the file does not"):
            load(path, facts=Facts(**facts))
        facts[name] = value
    header = load(path, facts=Facts(**facts)).header
    assert (header.codec, header.sigma_px, header.skeleton) == ("dark", 1.5, COCO_17)


def test_files_of_another_kind_are_one_line(
    network: PoseNet, small_space: SearchSpace, tmp_path: Path
) -> None:
    torch.save({"format": "vipnas", "version": 1, "network": {}}, tmp_path / "network.pt")
    with pytest.raises(ValueError, match="network.pt: expected a model file .*0.1.0 cannot be"):
        load(tmp_path / "network.pt")
    artefact = (
        Path(__file__).resolve().parent.parent / "artefacts" / "clip_supernet_1.0.safetensors"
    )
    with pytest.raises(ValueError, match="a network of images, got a file of kind clip_supernet"):
        load(artefact)
    with pytest.raises(ValueError, match="none.safetensors: expected a file, got no such"):
        load(tmp_path / "none.safetensors")
    assert header_of_space(small_space).kind == "supernet"


# --- the command line


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def test_info_says_what_a_file_is(
    model_file: Path, supernet_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = run(capsys, "info", model_file)
    for line in (
        "kind: image",
        f"arch: residual, {count_cost(SMALL)}",
        "skeleton: coco_17, 17 joints",
        "codec: quarter, sigma 2 px of the heatmap",
        "batch norm: measured on a test",
    ):
        assert line in said.splitlines()
    said = run(capsys, "info", supernet_file)
    assert "space: tiny, 41,472 architectures" in said and "batch norm: not calibrated" in said
    document = json.loads(run(capsys, "info", model_file, "--json"))
    assert document == json.loads(read_header(model_file).to_json())
    for kind in ("clip", "clip_supernet"):
        artefact = Path(__file__).resolve().parent.parent / "artefacts" / f"{kind}_1.0.safetensors"
        assert f"kind: {kind.replace('_', ' ')}" in run(capsys, "info", artefact)


def test_convert_there_and_back(
    model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published, again = tmp_path / "network.pth", tmp_path / "again.safetensors"
    run(capsys, "convert", model_file, "-o", published, "--to", "published")
    run(capsys, "convert", published, "-o", again, "--to", "safetensors")
    assert again.read_bytes() == model_file.read_bytes()
    arguments = ["convert", str(published), "-o", str(tmp_path / "x.pt"), "--to", "safetensors"]
    assert main(arguments) == 1
    assert "x.pt: expected a name that ends in .safetensors" in capsys.readouterr().err
    assert main(["convert", str(model_file), "-o", str(again), "--to", "published"]) == 1
    assert again.read_bytes() == model_file.read_bytes()


def test_predict_takes_its_facts_from_the_file(
    model_file: Path, people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = sorted((people / "test" / "images").iterdir())[:2]
    run(capsys, "predict", model_file, *images, "-o", tmp_path / "out")
    found = json.loads((tmp_path / "out" / "keypoints.json").read_text())
    model = load(model_file)
    for entry, path in zip(found, images, strict=True):
        assert entry["file_name"] == path.name
        keypoints = np.reshape(entry["keypoints"], (-1, 3))
        assert keypoints[:, :2] == pytest.approx(
            model.predict(read_image(path)).keypoints[0], abs=1e-3
        )
    arguments = ["predict", str(model_file), str(images[0]), "-o", str(tmp_path), "--codec", "udp"]
    assert main(arguments) == 1
    assert "--codec: expected no such option" in capsys.readouterr().err


def test_pictures_cost_no_second_run_of_the_network(
    model_file: Path, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []
    predict: Callable[..., Any] = Evaluator.predict

    def counted(self: Evaluator, network: Any) -> Any:
        calls.append(network)
        return predict(self, network)

    monkeypatch.setattr(Evaluator, "predict", counted)
    experiment = str(write_experiment(tmp_path, EXPERIMENT))
    places = ["--data-root", str(people), "--output", str(tmp_path / "run"), "--device", "cpu"]
    picture = tmp_path / "people.png"
    more = ["--pictures", str(picture)]
    assert main(["evaluate", experiment, str(model_file), *places, *more]) == 0
    assert len(calls) == 1 and picture.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: replace(h, sigma_px=1.0), "sigma_px: expected the experiment's 2.0, got 1.0"),
        (lambda h: replace(h, codec="udp"), "codec: expected the experiment's no udp, got udp"),
        (
            lambda h: replace(h, skeleton=replace(COCO_17, joints=COCO_17.joints[::-1])),
            r"joints\[0\]: expected nose, as in coco_17, got right_ankle",
        ),
    ],
)
def test_an_experiment_evaluates_models_of_its_own_targets_only(
    network: PoseNet,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Any], Any],
    message: str,
) -> None:
    path = tmp_path / "network.safetensors"
    write_model(path, network, change(header_of_arch(network.arch)))
    experiment = str(write_experiment(tmp_path, EXPERIMENT))
    assert main(["evaluate", experiment, str(path), "--device", "cpu"]) == 1
    error = capsys.readouterr().err
    assert f"{path}: " in error
    assert re.search(message, error), error


def test_the_python_interface_is_there_without_torch() -> None:
    assert vipnas.load is load and vipnas.PoseModel is PoseModel
    assert {"Arch", "SearchSpace", "count_cost", "PoseResult"} < set(vipnas.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'lod'"):
        vipnas.lod  # type: ignore[attr-defined]  # noqa: B018
    code = "import sys, vipnas; print(sorted({'torch', 'numpy', 'pydantic'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_skeleton_of_other_joints_fits_no_network() -> None:
    with pytest.raises(ValueError, match="skeleton.joints: expected 17, as in the arch, got 3"):
        replace(header_of_arch(TINY.min_arch()), skeleton=skeleton_of(3))
