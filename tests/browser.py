"""Debian's Chromium, or another one that is installed, without a window."""

import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def page_of(link: str, profile: Path) -> str:
    """Return a page as the browser has it after its script ran; nothing may be said on its console."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    options += ["--virtual-time-budget=9000", f"--user-data-dir={profile}"]
    done = subprocess.run([CHROMIUM, *options, link], capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr, done.stderr
    return done.stdout
