"""The page in a browser: it renders, in both themes; hover, legend and tabs work."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser_fixture import Browser, Page
from report_fixture import write_run

from vipnas.cli.main import main
from vipnas.space.image import SearchSpace

READY = "document.readyState === 'complete' && document.documentElement.dataset.ready !== undefined"
BLANK = (
    "[...document.querySelectorAll('.chart')]"
    ".filter((one) => one.clientWidth && !one.querySelector('canvas')).length"
)
BACKGROUND = "getComputedStyle(document.body).backgroundColor"


def point_at_first(page: Page, kind: str) -> str:
    """Move the pointer to the first point of a series of the front; return the text it shows."""
    x, y = page.value(
        "(() => { const u = Charts.shown[0].u,"
        f" s = u.series.findIndex((one) => one && one.label === '{kind}'),"
        " box = u.over.getBoundingClientRect();"
        "return [box.left + u.valToPos(u.data[s][0][0], 'x'),"
        " box.top + u.valToPos(u.data[s][1][0], 'y')] })()"
    )
    page.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    page.wait_for("!document.getElementById('tooltip').hidden")
    return str(page.value("document.getElementById('tooltip').textContent"))


@pytest.mark.browser
def test_the_page_renders_and_answers(
    browser: Browser, tmp_path: Path, tiny_space: SearchSpace
) -> None:
    run = write_run(tmp_path / "mine", tiny_space)
    write_run(run / "video", tiny_space, seed=1)
    assert main(["report", str(run)]) == 0
    page = browser.open((run / "report.html").as_uri())
    page.prefer(prefers_color_scheme="light")
    page.wait_for(READY)
    page.value("document.getElementById('images-front').scrollIntoView({behavior: 'instant'})")
    page.wait_for("Charts.shown.length > 1")
    shown = point_at_first(page, "winner")
    assert shown.startswith("winner") and "MMACs" in shown and "stage 1" in shown
    assert page.value(BACKGROUND) == "rgb(255, 255, 255)"
    page.value("document.getElementById('theme').click()")
    assert page.value(BACKGROUND) == "rgb(20, 23, 27)"
    page.value("document.querySelector('.legend button').click()")
    assert page.value("Charts.shown[0].u.series.slice(1).filter((one) => !one.show).length") == 2
    page.value("document.querySelector('[data-level=clips]').click()")
    assert page.value("[...document.querySelectorAll('main')].map((one) => one.hidden)") == [
        True,
        False,
    ]
    assert page.value(BLANK) > 0  # far from the screen
    page.value("dispatchEvent(new Event('beforeprint'))")
    assert page.value(BLANK) == 0
    page.resize(390, 800)
    page.wait_for("document.documentElement.scrollWidth <= 390")
    assert page.problems == []
    assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []
