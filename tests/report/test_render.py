"""The page as HTML: one file, a policy, nothing that is not escaped."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from prism_ray.errors import UsageError
from prism_ray.report.build import build_report
from prism_ray.report.opened import Opened
from prism_ray.report.render import MAX_BYTES, check_extra, render
from prism_ray.store import StoreFiles
from tests.report.conftest import HOSTILE, open_store
from tests.stores import copy_store


class Page(HTMLParser):
    """The elements of a page, with their attributes and texts."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open = ""
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag
        self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[self._open][-1] += data


def page_of(*stores: StoreFiles | Path | Opened) -> bytes:
    opened = [each if isinstance(each, Opened) else open_store(each) for each in stores]
    return render(build_report(opened, features=False))


def test_the_policy_names_every_script_and_style(opened: Opened) -> None:
    """Catches a script that the policy stops, and a policy that lets another one run."""
    page = Page(page_of(opened))
    policy = next(
        a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    for tag in ("script", "style"):
        attributes = [a for name, a in page.elements if name == tag]
        for a, text in zip(attributes, page.texts[tag], strict=True):
            if "type" not in a:
                digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
                assert f"'sha256-{digest}'" in policy
    assert all(
        a["type"] in ("application/json", "text/plain") for n, a in page.elements if n == "script" and a
    )


def test_nothing_is_fetched(opened: Opened) -> None:
    """Catches an address outside of the page, and an attribute that the policy would have to allow."""
    for tag, attributes in Page(page_of(opened)).elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, attributes)
            assert name != "style", (tag, attributes)
            if name in ("src", "href", "action", "data"):
                assert value is not None
                assert value.startswith("#"), (tag, attributes)


def test_hostile_names_stay_text(fill: Callable[..., StoreFiles]) -> None:
    """Catches a class name that becomes an element, ends a script, or turns the direction of the page."""
    data = page_of(fill(HOSTILE))
    page = Page(data)
    assert not [a for tag, a in page.elements if tag in ("img", "iframe", "object", "embed")]
    assert "\u202e".encode() not in data
    assert b"49 &amp;" not in data
    assert all("alert(" not in text for text in page.texts["script"][-2:])
    names = json.loads(pictures_data(page))["names"]
    assert names[0] == HOSTILE[0]
    assert names[2] == "abc\\u202edcba"


def pictures_data(page: Page) -> str:
    scripts = [a for tag, a in page.elements if tag == "script"]
    index = next(i for i, a in enumerate(scripts) if a.get("id") == "pictures-data")
    return page.texts["script"][index]


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        (lambda unit: False, ("No images are there yet", "No verdict yet", "This run is incomplete")),
        (lambda unit: not unit.startswith("evaluate/"), ("No students are trained yet", "No verdict yet")),
        (lambda unit: unit.startswith("squeeze/"), ("No batch of this image set is done yet",)),
    ],
)
def test_an_incomplete_run_has_a_page(
    keep: Callable[[str], bool], said: tuple[str, ...], made: Path, tmp_path: Path
) -> None:
    """Catches a report that needs a finished run."""
    copy_store(made, tmp_path / "run", keep)
    text = page_of(tmp_path / "run").decode()
    assert not [sentence for sentence in said if sentence not in text]


@pytest.mark.parametrize(("names", "ipc"), [(("only",), 1), (("only",), 3), (tuple("abc"), 1)])
def test_small_runs_have_a_page(names: tuple[str, ...], ipc: int, fill: Callable[..., StoreFiles]) -> None:
    """Catches a page that needs two classes, two images of a class, measures or students."""
    assert b"Is it any good?" in page_of(fill(names, ipc=ipc))


def test_two_stores_on_one_page(opened: Opened, fill: Callable[..., StoreFiles]) -> None:
    """Catches element ids that two stores share, and stores whose figures cannot be told apart."""
    page = Page(page_of(opened, fill(tuple("abc"))))
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert "The stores have no verdict together." in str(page.texts["b"])


def test_a_store_without_curves_says_so(fill: Callable[..., StoreFiles]) -> None:
    """Catches an empty section for the stores of earlier versions."""
    assert b"This run has no curves" in page_of(fill(tuple("abc")))


@pytest.mark.timeout(250)
def test_many_classes_fit_into_the_limit(fill: Callable[..., StoreFiles]) -> None:
    """Catches a page that grows with the number of classes: noise is the worst that can be compressed."""
    files = fill(tuple(f"class {k}" for k in range(300)), ipc=3, size=96, recover__images_per_batch=300)
    data = page_of(files)
    assert len(data) < MAX_BYTES
    assert re.search(rb"it has only|Thumbnails have", data)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a traceback in place of the name of the extra."""
    monkeypatch.setattr("prism_ray.report.render.find_spec", lambda name: None if name == "plotly" else name)
    with pytest.raises(
        UsageError, match=r"needs plotly, which is not installed; run `pip install 'prism-ray"
    ):
        check_extra()
