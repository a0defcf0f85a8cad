"""Every source gives its frames one by one, in order; a bad one is told in one line."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from vipnas.deploy.captures import CaptureSource
from vipnas.deploy.sources import open_source

FPS, NUM_FRAMES = 20.0, 12


def write_video(path: Path, num_frames: int = NUM_FRAMES, codec: str = "MJPG") -> Path:
    """Frame n is grey of 10 n, but for a red left half, and noise that makes the file large."""
    noise = np.random.default_rng(0).integers(0, 255, (16, 64, 3), np.uint8)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), FPS, (64, 48))
    for number in range(num_frames):
        frame = np.full((48, 64, 3), 10 * number % 250, np.uint8)
        frame[:, :32] = (0, 0, 250)
        frame[32:] = noise
        writer.write(frame)
    writer.release()
    return path


def write_images(root: Path, *names: str) -> list[Path]:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / name), np.full((20, 30, 3), 10 * number, np.uint8))
    return [root / name for name in names]


def test_a_video_is_read_frame_by_frame_in_rgb(tmp_path: Path) -> None:
    with open_source(write_video(tmp_path / "clip.avi")) as source:
        assert (source.kind, source.fps, source.total) == ("video", FPS, NUM_FRAMES)
        assert source.image_hw == (48, 64)
        assert source.files == (tmp_path / "clip.avi",)
        frames = list(source)
    assert [frame.index for frame in frames] == list(range(NUM_FRAMES))
    assert [frame.time_s for frame in frames] == pytest.approx(np.arange(NUM_FRAMES) / FPS)
    assert frames[3].name == "clip/000003" and frames[3].path is None
    for frame in frames:
        assert frame.image[14, 50] == pytest.approx(10 * frame.index, abs=3)
        assert frame.image[14, 10] == pytest.approx((250, 0, 0), abs=8)


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "mp4v"), (".mkv", "MJPG")])
def test_other_containers_are_read(tmp_path: Path, suffix: str, codec: str) -> None:
    path = write_video(tmp_path / f"clip{suffix}", codec=codec)
    values = [int(frame.image[14, 50, 1]) for frame in open_source(path)]
    assert values == pytest.approx(np.arange(NUM_FRAMES) * 10, abs=6)


def test_an_animation_is_a_video_and_a_still_gif_an_image(tmp_path: Path) -> None:
    pictures = [Image.fromarray(np.full((20, 30), value, np.uint8)) for value in (0, 90, 200)]
    pictures[0].save(tmp_path / "moves.gif", save_all=True, append_images=pictures[1:])
    pictures[1].save(tmp_path / "still.gif")
    moving, still = (list(open_source(tmp_path / name)) for name in ("moves.gif", "still.gif"))
    assert [int(frame.image[9, 9, 0]) for frame in moving] == [0, 90, 200]
    assert [int(frame.image[9, 9, 0]) for frame in still] == [90]


def test_a_folder_is_read_in_natural_order_with_its_exif_orientation(tmp_path: Path) -> None:
    write_images(tmp_path / "in", "b/2.png", "b/10.png", "a.png")
    (tmp_path / "in" / "notes.txt").write_text("text")
    stored = Image.fromarray(np.zeros((20, 30, 3), np.uint8))
    exif = Image.Exif()
    exif[274] = 6  # to be turned by a quarter
    stored.save(tmp_path / "in" / "z.jpg", exif=exif)
    source = open_source(tmp_path / "in")
    frames = list(source)
    assert (source.kind, source.total, source.image_hw) == ("folder", 4, None)
    assert [frame.name for frame in frames] == ["a", "b/2", "b/10", "z"]
    assert [frame.image.shape[:2] for frame in frames] == [(20, 30)] * 3 + [(30, 20)]
    assert [frame.file_name for frame in frames] == ["a.png", "b/2.png", "b/10.png", "z.jpg"]
    assert frames[1].path == tmp_path / "in" / "b" / "2.png"
    assert [frame.time_s for frame in open_source(tmp_path / "in", fps=4)] == [0, 0.25, 0.5, 0.75]


def test_what_is_not_an_image_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_images(tmp_path, "a.png")
    for name in ("notes.txt", "empty.jpg"):
        (tmp_path / name).write_text("" if name.endswith("jpg") else "text")
    assert open_source(tmp_path).total == 1
    assert f"2 files that are no images left out, such as {tmp_path}" in caplog.text


def test_results_of_the_last_time_are_no_images(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png", "out/a.png")
    assert [frame.name for frame in open_source(tmp_path, output=tmp_path / "out")] == ["a"]


def test_globs_and_several_places(tmp_path: Path) -> None:
    write_images(tmp_path, "a/1.png", "a/2.jpg", "b/1.png")
    some = open_source(f"{tmp_path}/*/1.png")
    assert (some.kind, [frame.name for frame in some]) == ("glob", ["a/1", "b/1"])
    places: list[str | Path] = [tmp_path / "b", tmp_path / "a" / "1.png", f"{tmp_path}/a/*.png"]
    assert [frame.name for frame in open_source(places)] == ["b/1", "a/1"]


def test_a_file_whose_name_looks_like_a_glob_is_a_file(tmp_path: Path) -> None:
    write_images(tmp_path, "a[1].png")
    assert open_source(f"{tmp_path}/a[1].png").kind == "image"


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["x.jpg"], ["x"]),
        (["x.jpg", "x.png", "y.png"], ["x.jpg", "x.png", "y.png"]),
        (["x.jpg", "x.jpg.png", "x.png"], ["x.jpg", "x.jpg.png", "x.png"]),
        (["X.jpg", "x.png"], ["X.jpg", "x.png"]),
    ],
)
def test_no_two_frames_have_one_name(files: list[str], names: list[str], tmp_path: Path) -> None:
    write_images(tmp_path, *files)
    assert [frame.name for frame in open_source(tmp_path)] == names


def test_damaged_images_are_named_or_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, second, _ = write_images(tmp_path, "1.png", "2.png", "3.png")
    second.write_bytes(second.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"2\.png: expected a whole image, got a truncated PNG"):
        list(open_source(tmp_path))
    frames = list(open_source(tmp_path, skip_bad_images=True))
    assert [(frame.index, frame.name) for frame in frames] == [(0, "1"), (2, "3")]
    assert "2.png: expected a whole image, got a truncated PNG" in caplog.text
    for name in ("1.png", "3.png"):
        (tmp_path / name).unlink()
    with pytest.raises(ValueError, match="expected images, got none that can be read"):
        list(open_source(tmp_path, skip_bad_images=True))


def bad_files(root: Path) -> dict[str, str]:
    """What is wrong with each."""
    write_video(root / "good.mp4", codec="mp4v")
    (root / "cut.mp4").write_bytes((root / "good.mp4").read_bytes()[:900])
    (root / "empty.mp4").touch()
    (root / "text.mp4").write_text("text\n" * 50)
    (root / "text.txt").write_text("text\n" * 50)
    (root / "text.jpg").write_text("text\n" * 50)
    write_video(root / "none.mp4", num_frames=0, codec="mp4v")
    (root / "folder").mkdir()
    return {
        "cut.mp4": "got neither (if it was cut short, its index is lost)",
        "empty.mp4": "got an empty file",
        "text.mp4": "got neither",
        "text.txt": "got neither",
        "text.jpg": "got neither",
        "none.mp4": "got neither",
        "missing.mp4": "got no such file",
        "folder": "expected images in this folder, got none",
        "*.xyz": "expected images in this glob, got none",
        "*.mp4": "expected images in this glob, got 5 other files",
    }


def test_a_bad_file_is_one_line_and_nothing_else_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, problem in bad_files(tmp_path).items():
        capfd.readouterr()
        with pytest.raises(ValueError) as error:
            open_source(tmp_path / name)
        assert problem in str(error.value) and str(error.value).startswith(str(tmp_path / name))
        assert "\n" not in str(error.value)
        assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    (path,) = write_images(tmp_path, "a.png")
    path.chmod(0)
    with pytest.raises(ValueError, match=r"a\.png: .* can be read, got Permission denied"):
        open_source(path)


@pytest.mark.parametrize("share", [0.4, 0.7])
def test_a_truncated_video_gives_what_it_has_and_says_where_it_ended(
    tmp_path: Path, share: float, caplog: pytest.LogCaptureFixture
) -> None:
    whole = write_video(tmp_path / "whole.avi", num_frames=20).read_bytes()
    path = tmp_path / "cut.avi"
    path.write_bytes(whole[: int(len(whole) * share)])
    num_read = len(list(open_source(path)))
    assert 20 * share - 4 < num_read < 20 * share + 2
    (message,) = caplog.messages
    seconds = num_read / FPS
    assert message == (
        f"{path}: truncated or damaged: {num_read} of 20 frames could be read, "
        f"up to {seconds:.1f} s"
    )


def test_a_whole_video_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert len(list(open_source(write_video(tmp_path / "clip.avi")))) == NUM_FRAMES
    assert not caplog.messages


def test_a_camera_that_is_not_there(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="^camera 93: expected a camera, got none that opens"):
        open_source("93")
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Takes connections, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_a_stream_that_does_not_answer(
    scheme: str, silent_server: str, capfd: pytest.CaptureFixture[str]
) -> None:
    address = f"{scheme}://{silent_server}/live"
    with pytest.raises(ValueError) as error:
        open_source(f"{scheme}://user:se@cret@{silent_server}/live", timeout_s=0.1)
    assert str(error.value) == f"{address}: expected a stream, got no answer within 0.1 s"
    assert capfd.readouterr() == ("", "")


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Serves the folder of the test."""
    handler = partial(_Silent, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=partial(server.serve_forever, 0.02), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_video_on_a_server_is_read_whole(tmp_path: Path, server: str) -> None:
    write_video(tmp_path / "clip.avi")
    with open_source(f"{server}/clip.avi") as source:
        frames = list(source)
    assert (source.kind, source.total) == ("stream", NUM_FRAMES)
    assert [frame.name for frame in frames][-1] == f"stream/{NUM_FRAMES - 1:06d}"
    with pytest.raises(ValueError, match="missing.avi: expected a stream, got none that opens"):
        open_source(f"{server}/missing.avi")


class LiveCapture:
    """A camera of 10 frames a second; frame n is grey of n. Time passes as the test says."""

    def __init__(self, last: int) -> None:
        self.now_s, self.next, self.last = 0.0, 0, last

    def get(self, what: int) -> float:
        return 10.0 if what == cv2.CAP_PROP_FPS else -1.0

    def read(self) -> tuple[bool, np.ndarray | None]:
        if self.next > self.last:
            return False, None
        self.now_s = max(self.now_s, self.next / 10)  # waits for a frame that is yet to come
        self.next += 1
        return True, np.full((2, 2, 3), self.next - 1, np.uint8)

    def grab(self) -> bool:
        return self.read()[0]

    def release(self) -> None:
        self.last = -1


def test_a_live_source_gives_the_newest_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    capture = LiveCapture(last=40)
    monkeypatch.setattr(time, "monotonic", lambda: capture.now_s)
    seen = []
    for frame in CaptureSource("camera", "camera 0", "camera_0", capture):  # type: ignore[arg-type]
        seen.append(int(frame.image[0, 0, 0]))
        assert frame.index == pytest.approx(frame.time_s * 10, abs=1)
        capture.now_s += 0.5  # the work on a frame
    gaps = np.diff(seen)
    assert seen[0] == 0 and gaps.min() >= 4 and gaps.max() <= 6


def test_a_live_source_that_is_quick_enough_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    capture = LiveCapture(last=10)
    monkeypatch.setattr(time, "monotonic", lambda: capture.now_s)
    seen = []
    for frame in CaptureSource("stream", "rtsp://a", "stream", capture):  # type: ignore[arg-type]
        seen.append((int(frame.image[0, 0, 0]), frame.index))
        capture.now_s += 0.05
    assert seen == [(number, number) for number in range(11)]
    assert caplog.messages == ["rtsp://a: ended or stopped to answer after 11 frames (1.0 s)"]


def test_memory_does_not_grow_with_the_video(tmp_path: Path) -> None:
    """In another process, whose peak is its own."""
    path = write_video(tmp_path / "clip.avi", num_frames=400)
    command = (
        "import resource\nfrom vipnas.deploy.sources import open_source\n"
        "used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"for frame in open_source({str(path)!r}):\n"
        "    if frame.index == 50: before = used()\n"
        "print(frame.index, used() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True
    )
    index, grown_kb = map(int, done.stdout.split())
    assert index == 399 and grown_kb < 2000, done.stdout


def test_a_real_video_is_read_whole(vipnas_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    with open_source(vipnas_data / "clips" / "juggle.mp4") as source:
        assert (source.image_hw, source.total, source.fps) == ((720, 1280), 247, 24.0)
        times = [frame.time_s for frame in source]
    assert times == pytest.approx(np.arange(247) / 24, abs=1e-3)
    assert not caplog.messages
