"""The page in a real browser: it draws, filters and switches, asks for nothing, and stays text."""

import http.server
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prism_ray.report.build import build_report
from prism_ray.report.render import render
from prism_ray.store import StoreFiles
from tests.browser import CHROMIUM
from tests.report.conftest import HOSTILE, open_store

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian's package chromium)"),
    pytest.mark.timeout(200),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


class Tab:
    """A tab with the page, and all that went wrong in it."""

    def __init__(self, browser: Any, path: Path, width: int = 1200, scheme: str = "light") -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append("dialog"), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(f"file://{path}")

    def see_all(self) -> None:
        """Bring every part of the page into view once."""
        self.page.evaluate(
            """async () => {
              for (const element of document.querySelectorAll(".plot, canvas")) {
                element.scrollIntoView();
                await new Promise((next) => requestAnimationFrame(() => requestAnimationFrame(next)));
              }
            }"""
        )
        self.page.wait_for_timeout(300)

    def check(self) -> None:
        """Nothing was said on the console, and nothing was asked for but the page itself."""
        assert self.complaints == []
        assert [url[:60] for url in self.requests if not url.startswith(("file://", "data:image/webp"))] == []
        assert len([url for url in self.requests if url.startswith("file://")]) == 1
        self.context.close()


def write(path: Path, *stores: Any, **options: Any) -> Path:
    path.write_bytes(render(build_report([*stores], **options)))
    return path


@pytest.fixture(scope="module")
def page_of_two(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the small run beside one that differs in its seed."""
    folder = tmp_path_factory.mktemp("two")
    shutil.copytree(made, folder / "other")
    one, two = open_store(made, folder / "other")
    two.run = replace(two.run, config=two.run.config.model_copy(update={"seed": 1}))
    return write(folder / "page.html", one, two)


@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1600, "light")])
def test_everything_is_drawn_and_fits(browser: Any, page_of_two: Path, width: int, scheme: str) -> None:
    """Catches an empty chart, a grey grid, an error on the console, and a page that scrolls sideways."""
    tab = Tab(browser, page_of_two, width, scheme)
    page = tab.page
    tab.see_all()
    visible = page.locator(".plot:visible")
    assert visible.count() >= 10
    assert page.locator(".plot:visible .main-svg").count() >= 2 * visible.count()
    bright = page.evaluate(
        """() => [...document.querySelectorAll("canvas")].map((canvas) => {
          const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          return Math.max(...data.filter((_, index) => index % 4 === 0));
        })"""
    )
    assert len(bright) == 40
    assert min(bright) > 100
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    tab.check()


def test_filter_order_and_pages(
    browser: Any, made: Path, fill: Callable[..., StoreFiles], tmp_path: Path
) -> None:
    """Catches a filter that finds nothing, or the same classes on each page."""
    names = tuple(f"kind {k:02d}" for k in range(30))
    tab = Tab(browser, write(tmp_path / "page.html", open_store(fill(names)), features=False))
    page = tab.page
    heads = page.locator("#grids h3 bdi")
    assert heads.all_text_contents() == list(names[:12])
    page.get_by_role("button", name="Next classes").click()
    assert heads.all_text_contents() == list(names[12:24])
    page.get_by_label("Class", exact=True).fill("IND 2")
    assert heads.all_text_contents() == list(names[20:30])
    page.get_by_label("Class", exact=True).fill("7")  # the label, and names that contain it
    assert heads.all_text_contents() == ["kind 07", "kind 17", "kind 27"]
    page.get_by_label("Class", exact=True).fill("nothing")
    assert page.get_by_role("status").text_content() == "No class has this name or number."
    page.get_by_label("Class", exact=True).fill("")
    assert page.get_by_role("status").text_content() == "30 classes"
    tab.check()


def test_rows_tabs_classes_and_colours_by_keyboard(browser: Any, page_of_two: Path) -> None:
    """Catches controls that a keyboard cannot reach, or that change nothing."""
    tab = Tab(browser, page_of_two)
    page = tab.page
    rows = page.locator("#row-choice input")
    before = page.locator("canvas").count()
    rows.first.focus()
    page.keyboard.press("Space")
    assert page.locator("canvas").count() == before * (rows.count() - 1) // rows.count()

    first, second = page.get_by_role("tab").all()[:2]
    first.focus()
    page.keyboard.press("ArrowRight")
    assert second.get_attribute("aria-selected") == "true"
    assert page.evaluate("document.activeElement.id") == second.get_attribute("id")
    assert page.locator(f"#{second.get_attribute('aria-controls')}").is_visible()
    assert not page.locator(f"#{first.get_attribute('aria-controls')}").is_visible()

    tab.see_all()
    points = page.locator("#features .plot").first.locator(".points path")
    before = points.count()
    page.locator("#projection-classes input").first.focus()
    page.keyboard.press("Space")
    page.wait_for_timeout(200)
    assert points.count() == before - 2

    for colour in ("rgb(255, 255, 255)", "rgb(20, 23, 27)"):
        page.locator("#theme").focus()
        page.keyboard.press("Enter")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == colour
    page.keyboard.press("Tab")
    tab.check()


def test_hostile_names_stay_text_in_the_browser(
    browser: Any, fill: Callable[..., StoreFiles], tmp_path: Path
) -> None:
    """Catches a class name that runs, loads, or turns the text around it."""
    tab = Tab(browser, write(tmp_path / "page.html", open_store(fill(HOSTILE)), features=False), 400)
    tab.see_all()
    heads = tab.page.locator("#grids h3 bdi").all_text_contents()
    assert heads[:2] == list(HOSTILE[:2])
    assert heads[2] == "abc\\u202edcba"
    assert tab.page.locator("img").count() == 0
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 400
    tab.check()


def test_the_policy_stops_what_gets_in(browser: Any, page_of_two: Path, tmp_path: Path) -> None:
    """Catches a policy that does not hold: if escaping ever failed, nothing would run or load."""
    came: list[str] = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            came.append(self.path)

    server = http.server.HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    bad = f'<img src="{address}/a" onerror="document.title = 1"><script>document.title = 2</script>'
    page = tmp_path / "page.html"
    page.write_bytes(page_of_two.read_bytes().replace(b"</main>", bad.encode() + b"</main>"))
    tab = Tab(browser, page)
    tab.page.evaluate(f"fetch('{address}/b').catch(() => 0)")
    tab.page.wait_for_timeout(300)
    assert "prism-ray report" in tab.page.title()
    assert came == []
    assert len(tab.complaints) >= 3
    tab.context.close()
    server.shutdown()
    server.server_close()


def test_print_has_all_charts(browser: Any, page_of_two: Path) -> None:
    """Catches a printed page whose charts below the screen are empty, or light text on white paper."""
    tab = Tab(browser, page_of_two, 1000, "dark")
    tab.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    tab.page.wait_for_timeout(1500)
    assert tab.page.locator(".plot .main-svg").count() >= 2 * tab.page.locator(".plot").count()
    assert tab.page.evaluate("document.documentElement.dataset.theme") == "light"
    tab.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert len(tab.page.pdf()) > 50_000
    tab.context.close()
