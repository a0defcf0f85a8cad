"""A headless Chromium for tests, driven by its DevTools protocol over a pipe.

    with serving(folder) as url:
        page = browser.open(f"{url}/index.html")
        page.wait_for("document.title === 'done'")
        assert page.value("1 + 1") == 2
        assert page.problems == []
        page.screenshot(tmp_path / "page.png")

`browser` is a fixture: one Chromium for all tests of a process. `chromium` starts another one.
Tests that use either are marked `browser`, and skip where there is no Chromium.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Of one answer. A busy machine takes ten times as long as a quiet one.
SECONDS = 40.0


def find_chromium() -> str | None:
    """The program that CHROMIUM names, or the first on the path; None without one."""
    return next(filter(None, map(shutil.which, (os.environ.get("CHROMIUM", ""), *NAMES))), None)


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a folder as `python -m http.server` does; the value is its address."""
    handler = partial(_QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def chromium(arguments: Sequence[str] = ()) -> Iterator[Browser]:
    """Run a headless Chromium with an empty profile, and end it with all its processes."""
    program = find_chromium()
    assert program is not None, "no Chromium: mark the test as `browser`"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [
            program,
            "--headless=new",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--no-first-run",
            "--mute-audio",
            "--hide-scrollbars",
            *arguments,
            "about:blank",
        ]
        process, our_input, our_output = _spawn(command)
        try:
            browser = Browser(our_input, our_output)
            yield browser
            browser.send("Browser.close")
        finally:
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
            os.close(our_input)
            os.close(our_output)


def _spawn(command: Sequence[str]) -> tuple[int, int, int]:
    """Start it in a group of its own; return its number and our ends of its two pipes."""
    its_input, our_output = os.pipe()
    our_input, its_output = os.pipe()
    # Above the two that it expects, so that neither is overwritten by the other.
    high_input, high_output = (
        fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 10) for one in (its_input, its_output)
    )
    process = os.posix_spawn(
        command[0],
        [*command],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, high_input, 3),
            (os.POSIX_SPAWN_DUP2, high_output, 4),
            *((os.POSIX_SPAWN_OPEN, one, os.devnull, os.O_RDWR, 0) for one in range(3)),
        ],
        setpgroup=0,
    )
    for one in (its_input, its_output, high_input, high_output):
        os.close(one)
    return process, our_input, our_output


class Browser:
    """The browser's end of the protocol: JSON messages that end with a zero byte."""

    def __init__(self, our_input: int, our_output: int) -> None:
        self._input, self._output = our_input, our_output
        self._received, self._last_id = b"", 0
        self._pages: dict[str, Page] = {}

    def open(self, url: str, width: int = 1280, height: int = 800, scale: float = 1.0) -> Page:
        """Open a page of this size, and wait until all that it names has loaded."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.send(f"{domain}.enable")
        page.resize(width, height, scale)
        page.send("Page.navigate", url=url)
        page.wait_for("document.readyState === 'complete'")
        return page

    def send(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self._last_id += 1
        message: dict[str, Any] = {"id": self._last_id, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._output, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != message["id"]:
            if (page := self._pages.get(answer.get("sessionId", ""))) is not None:
                page.notice(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._input], [], [], SECONDS)
            assert ready, f"Chromium was silent for {SECONDS:g} s"
            part = os.read(self._input, 1 << 20)
            assert part, "Chromium ended"
            self._received += part
        message, _, self._received = self._received.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


class Page:
    """An open page.

    Attributes:
        problems: Errors and warnings of its console, exceptions, and files that did not load.
        requests: The addresses that it asked for.
    """

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session
        self.problems: list[str] = []
        self.requests: list[str] = []

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol."""
        return self._browser.send(method, self._session, **parameters)

    def value(self, script: str) -> Any:
        """Return the JSON value of a JavaScript expression; a promise is awaited."""
        found = self.send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, _exception(found["exceptionDetails"])
        return found["result"].get("value")

    def wait_for(self, condition: str, seconds: float = SECONDS) -> None:
        """Wait until a JavaScript expression is true."""
        end = time.monotonic() + seconds
        while not self.value(f"Boolean({condition})"):
            assert time.monotonic() < end, f"not within {seconds:g} s: {condition}; {self.problems}"
            time.sleep(0.05)

    def resize(self, width: int, height: int, scale: float = 1.0) -> None:
        """Set the size of the page in CSS pixels, and device pixels a CSS pixel."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )

    def prefer(self, **features: str) -> None:
        """Set media features: `prefers_color_scheme="dark"`."""
        named = [
            {"name": name.replace("_", "-"), "value": value} for name, value in features.items()
        ]
        self.send("Emulation.setEmulatedMedia", features=named)

    def choose_files(self, selector: str, *paths: Path) -> None:
        """Choose files in an `<input type="file">`."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        assert node, f"no element {selector}"
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])

    def screenshot(self, path: Path) -> None:
        """Write a PNG of what is visible."""
        image = self.send("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(image))

    def notice(self, event: dict[str, Any]) -> None:
        """Take an event of the browser about this page."""
        found = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                self.problems.append(_exception(found["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if found["type"] in ("error", "warning", "assert"):
                texts = (str(one.get("value", one.get("description", ""))) for one in found["args"])
                self.problems.append(f"console.{found['type']}: {' '.join(texts)}")
            case "Log.entryAdded" if found["entry"]["level"] in ("error", "warning"):
                entry = found["entry"]
                self.problems.append(f"{entry['text']} {entry.get('url', '')}".strip())
            case "Network.requestWillBeSent":
                self.requests.append(found["request"]["url"])


def _exception(details: dict[str, Any]) -> str:
    return str(details.get("exception", {}).get("description", details["text"]))
