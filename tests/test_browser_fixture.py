"""The browser itself: what a page computes, what it reports, and what one sees."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser_fixture import Browser, serving

from vipnas.data.crops.images import read_image

PAGE = """<!doctype html><title>start</title><style>body { background: #ff0000 }</style>
<input type=file><script>console.error("a bad", 1); document.title = "done"</script>
<script>missing()</script>"""


@pytest.mark.browser
def test_a_page_is_opened_asked_and_pictured(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(PAGE)
    with serving(tmp_path) as url:
        page = browser.open(f"{url}/index.html", width=320, height=200)
        page.wait_for("document.title === 'done'")
        assert page.value("Promise.resolve({sum: [1 + 1]})") == {"sum": [2]}
        page.choose_files("input", tmp_path / "index.html")
        assert page.value("document.querySelector('input').files[0].name") == "index.html"
        assert any("a bad 1" in problem for problem in page.problems)
        assert any("missing is not defined" in problem for problem in page.problems)
        assert f"{url}/index.html" in page.requests
        page.screenshot(tmp_path / "page.png")
    image = read_image(tmp_path / "page.png")
    assert image.shape == (200, 320, 3)
    assert image[-1, -1].tolist() == [255, 0, 0]
