"""The dashboard over HTTP: who is answered, and the page in a browser."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from prism_ray.run import Run, new_run
from prism_ray.store import StoreFiles
from tests.browser import page_of
from tests.filled import finish

pytest.importorskip("plotly")


@pytest.fixture
def link(tmp_path: Path, make_run: Callable[..., Run]) -> Iterator[str]:
    """The link of a dashboard on a finished run with a hostile class name."""
    run = make_run()
    names = "<img src=x onerror=alert(1)>", "\u202eright to left", "c" * 300
    run = new_run(run.config, replace(run.facts, class_names=names), 1)
    finish(StoreFiles(str(tmp_path / "run")), run)
    command = [sys.executable, "-m", "prism_ray", "dashboard", str(tmp_path / "run"), "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
        process.terminate()
        process.wait(20)


def get(url: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read(), dict(error.headers)


def test_only_the_link_is_answered(link: str) -> None:
    """Catches a page that every user of the machine, or any web site in the browser, can read."""
    parts = urlsplit(link)
    assert parts.hostname == "127.0.0.1"
    base = f"http://{parts.netloc}"
    assert get(base)[0] == 403
    assert get(f"{base}/state.json?token=x")[0] == 403
    assert get(f"{base}/state.json?{parts.query}", Host="evil.example")[0] == 403
    status, page, headers = get(link)
    assert status == 200
    assert b"prism-ray" in page
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "HttpOnly" in headers["Set-Cookie"]
    status, data, _ = get(f"{base}/state.json", Cookie=headers["Set-Cookie"].partition(";")[0])
    assert status == 200
    assert json.loads(data)["stages"]
    request = urllib.request.Request(link, data=b"x", method="POST")
    with pytest.raises(urllib.error.HTTPError, match="405"):
        urllib.request.urlopen(request, timeout=60)


def test_the_page_in_a_browser(link: str, tmp_path: Path) -> None:
    """Catches a page that stays empty, an error in its script, and a class name that becomes HTML."""
    dom = page_of(link, tmp_path / "profile")
    assert "&lt;img src=x onerror=alert(1)&gt;" in dom
    assert "<img src=x" not in dom.replace('src="x', "src=x")
    assert "Complete. No driver is at work." in dom
    assert dom.count("<figure>") == 3
    assert "js-plotly-plot" in dom


@pytest.mark.parametrize(
    ("arguments", "said"), [(["nowhere"], "contains no run"), (["x", "--port", "-1"], "port")]
)
def test_wrong_input_is_told(arguments: list[str], said: str, tmp_path: Path) -> None:
    """Catches a traceback in place of a sentence."""
    command = [sys.executable, "-m", "prism_ray", "dashboard", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
