"""A page for browsers: its files, where its runtime comes from, and what it shows."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from browser_fixture import chromium, serving
from errors_fixture import refused
from model_fixture import header_of_arch, save_clip, save_network
from networks_fixture import randomise_batch_norm
from onnx import TensorProto
from onnx_fixture import write_constant_model

from vipnas.arch.clip import FollowUp, Fusion, KeyFrameRule, Trigger, VideoArch
from vipnas.arch.image import SimccArch
from vipnas.cli.main import main
from vipnas.data.crops.decoding import decode_jpeg
from vipnas.data.formats.skeletons import COCO_17
from vipnas.deploy import export_web as page_module
from vipnas.deploy import onnxruntime_web as runtime
from vipnas.deploy.export_web import PAGE, export_web
from vipnas.deploy.following import FollowRule, follow
from vipnas.deploy.loading import load
from vipnas.deploy.model import PoseModel
from vipnas.errors import UserError
from vipnas.evaluation.tracker import Tracker
from vipnas.models.clipnet import build_video_net
from vipnas.models.file import write_model
from vipnas.models.posenet import PoseNet
from vipnas.shipped import find_shipped
from vipnas.space.yaml import read_space
from vipnas.synthetic.clip import frames_of, random_video

TINY = read_space(find_shipped("search_spaces", "tiny"))
NUM_FRAMES, IMAGE_HW = 40, (120, 160)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = PoseNet(TINY.min_arch()).eval()
    randomise_batch_norm(network, seed=0)
    return save_network(tmp_path_factory.mktemp("model") / "network.safetensors", network)


@pytest.fixture(scope="module")
def clip_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key frame and four follow-up frames: one without a fusion, the last without a network."""
    torch.manual_seed(0)
    small = TINY.min_arch()
    fusions = (Fusion(1, "mul"), None, Fusion(2, "cat"))
    follow_ups = (*(FollowUp(small, one) for one in fusions), None)
    clip = build_video_net(VideoArch(small, follow_ups)).eval()
    randomise_batch_norm(clip, seed=0)
    return save_clip(tmp_path_factory.mktemp("clip") / "clip.safetensors", clip)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The unpacked npm package, with files that are as short as can be."""
    dist = tmp_path / "package" / "dist"
    dist.mkdir(parents=True)
    for name in runtime.FILES:
        (dist / name).write_text(f"content of {name}")
    return dist.parent


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks are not exported: that takes seconds, and has tests of its own."""

    def export(*arguments: Any) -> Path:
        path: Path = next(one for one in arguments if isinstance(one, Path))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a network")
        return path

    monkeypatch.setattr(page_module, "export_network", export)
    monkeypatch.setattr(page_module, "export_module", export)


def write_detector(folder: Path, input_type: int = TensorProto.FLOAT) -> str:
    found = {"found": np.zeros((1, 3, 6), np.float32)}
    write_constant_model(folder / "detector.onnx", found, input_type=input_type)
    (folder / "detector.yaml").write_text("{input: {colour: bgr}, output: {form: end_to_end}}")
    return str(folder / "detector.onnx")


# Files


def test_frames_of_several_sizes_have_no_page(tmp_path: Path) -> None:
    small = TINY.min_arch()
    half = FollowUp(replace(small, input_hw=(32, 24)), None)
    file = save_clip(tmp_path / "clip.safetensors", build_video_net(VideoArch(small, (half,))))
    with refused(f"{file}: input_hw", "one size of all frames for a page", "[32, 24], [64, 48]"):
        export_web(load(file), tmp_path / "page")


@pytest.mark.usefixtures("quick")
def test_a_page_is_written_with_all_that_it_reads(
    weights: Path, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, detector = tmp_path / "page", write_detector(tmp_path)
    command = ["export", str(weights), "--format", "web", "-o", str(out)]
    options = ["--onnxruntime-web", str(package), "--detector", detector]
    assert main([*command, *options]) == 0
    assert "index.html" in capsys.readouterr().out
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    ours = {path.name for path in PAGE.iterdir()} - {"onnxruntime-web.LICENSE"}
    assert written == ours | {
        "model.json",
        "network.onnx",
        "decoder.onnx",
        "flip_mean.onnx",
        "detector.onnx",
        "onnxruntime-web/LICENSE",
        "onnxruntime-web/ort.wasm.bundle.min.js",
        "onnxruntime-web/ort-wasm-simd-threaded.wasm",
    }
    engine = (out / "engine.js").read_text()
    assert all(name in engine for name in ("ort.wasm.bundle.min.js", "threaded.wasm"))
    facts = json.loads((out / "model.json").read_text())
    assert facts["header"]["skeleton"]["joints"] == list(COCO_17.joints)
    assert facts["following"]["detect_every"] == FollowRule().detect_every
    assert facts["detector"]["input"] == {
        "colour": "bgr",
        "hw": [64, 64],
        "mean": [0.0] * 3,
        "std": [1.0] * 3,
        "layout": "nchw",
        "dtype": "float32",
    }
    assert facts["detector"]["output"]["form"] == "end_to_end"


@pytest.mark.parametrize(
    ("options", "place", "found"),
    [
        (["--format", "web", "--with-decode"], "--with-decode", "one"),
        (["--detector", "a.onnx"], "--detector", "one"),
        (["--format", "web", "--detector", "whole-image"], "detector", "whole-image"),
        (["--format", "web", "--detector", "{half}"], "{half}: input", "float16"),
        (["--format", "web", "--onnxruntime-web", "{empty}"], "{empty}", "a folder without them"),
        (["--format", "web", "--onnxruntime-web", "/none"], "/none", "no such folder"),
    ],
)
def test_options_that_cannot_be_used_are_refused_in_one_line(
    options: list[str],
    place: str,
    found: str,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    half = write_detector(tmp_path, TensorProto.FLOAT16)
    names = {"half": half, "empty": str(tmp_path / "empty")}
    options = [option.format(**names) for option in options]
    assert main(["export", str(weights), "-o", str(tmp_path / "out.onnx"), *options]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert place.format(**names) in line and f"got {found}" in line
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.usefixtures("quick")
def test_the_networks_of_a_clip_are_written_beside_each_other(
    clip_weights: Path, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export_web(load(clip_weights), tmp_path / "page", runtime_folder=package)
    written = {path.name for path in (tmp_path / "page").glob("*.onnx")}
    follow_ups = {f"follow_up_{number}.onnx" for number in (1, 2, 3, 4)}
    assert written == follow_ups | {"network.onnx", "decoder.onnx", "flip_mean.onnx"}
    facts = json.loads((tmp_path / "page" / "model.json").read_text())
    assert facts["num_follow_ups"] == 4 and len(facts["stride_xy"]) == 2
    with pytest.raises(UserError, match="expected fp32 for the networks of a clip, got fp16"):
        export_web(load(clip_weights), tmp_path / "half", "fp16", runtime_folder=package)
    assert not (tmp_path / "half").exists()
    assert main(["export", str(clip_weights), "-o", str(tmp_path / "clip.onnx")]) == 1
    assert "`vipnas video export` writes" in capsys.readouterr().err


# The runtime


def npm_package(folder: Path) -> bytes:
    """A package as the registry gives it."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name in runtime.FILES:
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = len(name)
            archive.addfile(entry, io.BytesIO(name.encode()))
    path = folder / "onnxruntime-web" / "-" / f"onnxruntime-web-{runtime.VERSION}.tgz"
    path.parent.mkdir(parents=True)
    path.write_bytes(content.getvalue())
    return content.getvalue()


def test_the_runtime_is_fetched_once_from_the_registry_of_npm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = npm_package(tmp_path / "registry")
    digest = base64.b64encode(hashlib.sha512(package).digest()).decode()
    monkeypatch.setattr(runtime, "SHA512", digest)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"{(tmp_path / 'registry').as_uri()}/")
    said: list[str] = []
    wanted = {name: name.encode() for name in runtime.FILES}
    assert runtime.onnxruntime_web(say=said.append) == wanted
    assert runtime.onnxruntime_web(say=said.append) == wanted
    assert len(said) == 1 and said[0].startswith("file:///")


def test_a_package_with_another_hash_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm_package(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", tmp_path.as_uri())
    with pytest.raises(UserError) as caught:
        runtime.onnxruntime_web()
    assert caught.value.expected.startswith("sha512 q0y+")
    assert not runtime.cache_folder().exists()


def test_a_registry_that_cannot_be_reached_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", (tmp_path / "missing").as_uri())
    with pytest.raises(UserError) as caught:
        runtime.onnxruntime_web()
    assert "--onnxruntime-web DIR" in str(caught.value.hint)


def test_without_settings_the_public_registry_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "")
    assert runtime.registry() == "https://registry.npmjs.org"


# In a browser


@pytest.fixture(scope="module")
def exported(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_page(weights, tmp_path_factory.mktemp("page"))


def exported_page(model: PoseModel | Path, page: Path) -> Path:
    folder = runtime.cache_folder()
    if not all((folder / name).is_file() for name in runtime.FILES):
        pytest.skip(f"no onnxruntime-web in {folder}: `vipnas export --format web` fetches it")
    export_web(load(model) if isinstance(model, Path) else model, page)
    return page


def frames() -> list[np.ndarray]:
    """A bright disc that moves over a pattern, uint8 RGB."""
    y, x = np.mgrid[: IMAGE_HW[0], : IMAGE_HW[1]]
    pattern = np.stack((x, y, (x * 3 + y * 2) % 255), axis=2).astype(np.uint8)
    images = []
    for number in range(NUM_FRAMES):
        image = cv2.GaussianBlur(pattern, (0, 0), 2.0)
        cv2.circle(image, (20 + 3 * number, 60), 18, (250, 220, 90), cv2.FILLED, cv2.LINE_AA)
        images.append(image)
    return images


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("flip_test", [False, True])
def test_a_whole_video_in_a_browser_equals_python(
    flip_test: bool, exported: Path, weights: Path
) -> None:
    joints, distances = in_a_browser(load(weights, flip_test=flip_test), exported, [frames()])
    assert joints.shape == (NUM_FRAMES, COCO_17.num_joints, 2) and joints.std() > 5
    assert (distances <= 0.5).mean() >= 0.99


@pytest.mark.slow
@pytest.mark.browser
def test_joints_of_simcc_are_decoded_in_a_browser_as_in_python(tmp_path: Path) -> None:
    """Fixed logits of clear maxima, and those of mirrored crops, which mirror one of the axes."""
    torch.manual_seed(0)
    arch = replace(TINY.min_arch(), head=(), simcc=SimccArch(1))
    network = PoseNet(arch).eval()
    weights = tmp_path / "network.safetensors"
    header = header_of_arch(replace(arch, simcc=None))
    write_model(weights, network, replace(header, arch=arch, codec="simcc", sigma_px=1.5))
    page_folder, model = exported_page(weights, tmp_path / "page"), load(weights)
    height, width = arch.input_hw
    both = []
    for _ in range(2):
        joints_BK3 = torch.rand(2, COCO_17.num_joints, 3) * torch.tensor((width, height, 0.0))
        targets, _ = model.codec.encode(joints_BK3 + torch.tensor((0.0, 0.0, 1.0)))
        both.append(targets.clamp(min=1e-6).log() + 0.01 * torch.randn(targets.shape))
    with serving(page_folder) as url, chromium() as browser:
        found = browser.open(f"{url}/index.html").value(
            f"""import('/engine.js').then(async ({{Engine}}) => {{
                const {{network}} = await Engine.open();
                const shape = {list(both[0].shape)};
                const tensor = (values) =>
                    new network.ort.Tensor("float32", Float32Array.from(values), shape);
                const heatmaps = tensor({both[0].flatten().tolist()});
                const mirrored = tensor({both[1].flatten().tolist()});
                const {{mean}} = await network.flipMean.run({{heatmaps, mirrored}});
                const view = {{scaleX: 1, scaleY: 1, x: 0, y: 0}};
                const poses = await network.decoded(mean, [view, view]);
                return poses.map(({{keypoints, scores}}) =>
                    keypoints.map((xy, joint) => [...xy, scores[joint]]));
            }})"""
        )
    shift = model.header.input.flip_shift
    mean = model.codec.average(both[0], both[1], COCO_17.flip_order, shift)
    xy_BK2, scores_BK = model.codec.decode(mean)
    np.testing.assert_allclose(np.array(found)[..., :2], xy_BK2, atol=1e-4)
    np.testing.assert_allclose(np.array(found)[..., 2], scores_BK, atol=1e-4)


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("trigger", [None, "score", "change"])
def test_the_networks_of_a_clip_in_a_browser_equal_python(
    trigger: Trigger | None, clip_weights: Path, tmp_path: Path
) -> None:
    """Key frames and follow-up frames, whose heatmaps are warped to the crop that moves. Key frames
    come by the clock, or by need."""
    model = load(clip_weights, flip_test=False)
    thresholds: dict[Trigger, float] = {"score": 0.8, "change": 0.1}
    if trigger is not None:
        rule = KeyFrameRule(trigger, thresholds[trigger], 7)
        model = replace(model, header=replace(model.header, key_frames=rule))
    page = exported_page(model, tmp_path / "page")
    joints, distances = in_a_browser(model, page, [frames()])
    assert joints.std() > 5 and (distances <= 0.5).mean() >= 0.99
    key_frames = replace(model, network=model.network.key_frame)  # type: ignore[arg-type]
    _, others = in_a_browser(key_frames, page, [frames()])
    assert (others <= 0.5).mean() < 0.9


@pytest.mark.slow
@pytest.mark.browser
def test_a_trained_network_in_a_browser_equals_python_on_ten_videos(tmp_path: Path) -> None:
    """`VIPNAS_TRAINED=retrain/network.safetensors pytest -m slow -s -k ten_videos`, of image
    networks and of clips. The page gets the boxes of Python's loop: where a network is unsure,
    boxes that follow its poses drift apart from one grey level of difference in a crop."""
    if "VIPNAS_TRAINED" not in os.environ:
        pytest.skip("VIPNAS_TRAINED is not set: it names a trained model")
    model = load(os.environ["VIPNAS_TRAINED"], flip_test=False)
    rng = np.random.default_rng(11)
    videos = []
    for _ in range(10):
        video = random_video(rng, 48, (160, 160), (1, 1), 0.0, 1.0)
        jpegs = [jpeg for jpeg, _ in frames_of(video, rng, COCO_17.joints)]
        videos.append([decode_jpeg(Path("frame"), jpeg, 1, ignore_exif=True) for jpeg in jpegs])
    page = exported_page(Path(os.environ["VIPNAS_TRAINED"]), tmp_path / "page")
    _, distances = in_a_browser(model, page, videos, boxes_are_given=True)
    share = float((distances <= 0.5).mean())
    print(
        f"\n{distances.size} joints, {share:.2%} within 0.5 px,"
        f" median {np.median(distances):.0e} px, largest {distances.max():.0f} px"
    )
    assert share >= 0.99


def in_a_browser(
    model: PoseModel,
    page_folder: Path,
    videos: list[list[np.ndarray]],
    boxes_are_given: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Joints (F, K, 2) that a page finds in the frames of videos, and their distances (F, K) to
    those of Python. Frames are PNG files, since browsers decode videos by themselves. The page
    follows the person by itself, or is given the boxes and the key frames of Python."""
    skeleton = model.skeleton
    wanted = [
        frame for images in videos for frame in follow(images, model.runner(), Tracker(skeleton))
    ]
    given = [
        {"boxes": frame.boxes_xyxy.tolist(), "isKeyFrame": bool(frame.is_key_frame[0])}
        for frame in wanted
        if boxes_are_given
    ]
    (page_folder / "frames").mkdir(exist_ok=True)
    for number, image in enumerate(image for images in videos for image in images):
        cv2.imwrite(str(page_folder / "frames" / f"{number}.png"), image[..., ::-1])
    with serving(page_folder) as url, chromium() as browser:
        page = browser.open(f"{url}/index.html")
        found = page.value(
            f"""import('/engine.js').then(async ({{Engine, pixelsOf}}) => {{
                const [engine, persons, given] = [await Engine.open(), [], {json.dumps(given)}];
                const flips = {str(model.flip_test).lower()};
                let memory = null;
                const find = async (image, frame) => {{
                    if (!frame) return engine.track(image, flips);
                    const network = engine.network;
                    if (!engine.facts.num_follow_ups)
                        return network.predict(image, frame.boxes, flips);
                    const before = frame.isKeyFrame ? null : memory;
                    const poses = await network.follow(image, frame.boxes, [before]);
                    memory = poses[0].memory;
                    return poses;
                }};
                for (const length of {[len(images) for images in videos]}) {{
                    engine.restart();
                    for (let number = 0; number < length; number++) {{
                        const blob = await (await fetch(`/frames/${{persons.length}}.png`)).blob();
                        const image = pixelsOf(await createImageBitmap(blob));
                        const poses = await find(image, given[persons.length]);
                        persons.push(poses.map(({{ keypoints }}) => ({{ keypoints }})));
                    }}
                }}
                return persons;
            }})"""
        )
        assert page.problems == []
    joints = np.array([[person["keypoints"] for person in persons] for persons in found])
    assert joints.shape == (sum(map(len, videos)), 1, skeleton.num_joints, 2)
    distances = np.abs(joints - [frame.keypoints for frame in wanted])
    return joints[:, 0], distances[:, 0].max(axis=-1)


@pytest.mark.slow
@pytest.mark.browser
def test_the_page_shows_the_poses_of_a_camera(exported: Path, tmp_path: Path) -> None:
    """A clip is the camera. The page draws and counts, on a phone too, and complains of nothing."""
    clip = tmp_path / "camera.mjpeg"
    pictures = (cv2.imencode(".jpg", image[..., ::-1])[1] for image in frames())
    clip.write_bytes(b"".join(picture.tobytes() for picture in pictures))
    camera = [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={clip}",
    ]
    with serving(exported) as url, chromium(camera) as browser:
        page = browser.open(f"{url}/index.html", 390, 844, 2)
        page.wait_for("!document.getElementById('camera').disabled")
        page.value("document.getElementById('camera').click()")
        page.wait_for("Number(document.body.dataset.frames) >= 10")
        assert page.value("document.body.dataset.persons") == "1"
        assert float(page.value("document.getElementById('fps').textContent")) > 0
        assert page.value("document.documentElement.scrollWidth") <= 390
        page.value("document.getElementById('camera').click()")
        assert page.value("document.getElementById('notice').hidden")
        (exported / "bad.png").write_text("no image")
        page.choose_files("#file", exported / "bad.png")
        page.wait_for("!document.getElementById('notice').hidden")
        assert "bad.png: expected an image" in page.value(
            "document.getElementById('notice').textContent"
        )
        assert page.problems == []
