"""--push, as a user calls it, against a Hub over real HTTP on this machine."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from prism_ray.cli import main
from prism_ray.run import Run
from prism_ray.store import StoreFiles
from tests.filled import finish
from tests.hub import TOKEN, Hub, serve_hub

datasets = pytest.importorskip("datasets")


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve_hub() as found:
        yield found


@pytest.fixture
def store(local: StoreFiles, make_run: Callable[..., Run]) -> str:
    finish(local, make_run())
    return local.location


@pytest.fixture
def push(hub: Hub, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Do `prism-ray export STORE ...` in this process; huggingface_hub asks the Hub of the test."""
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def run(
        *options: str, token: str | None = TOKEN, url: str | None = None, offline: bool = False
    ) -> Result:
        monkeypatch.setattr(constants, "ENDPOINT", url or hub.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        if token is not None:
            monkeypatch.setenv("HF_TOKEN", token)
        return CliRunner().invoke(main, ["export", store, *options])

    return run


def send(hub: Hub, store: str, folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Do `prism-ray export STORE ...` as a user does, in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": TOKEN,
        "TMPDIR": str(folder),
    }
    words = [sys.executable, "-m", "prism_ray", "export", store, *options]
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_a_dataset_is_sent_and_can_be_loaded(hub: Hub, store: str, tmp_path: Path) -> None:
    """Catches files that are not sent, a public repository, and a copy that stays on the disk."""
    result = send(hub, store, tmp_path, "--push", "alice/digits")
    assert result.returncode == 0, result.stderr
    assert f"{hub.url}/datasets/alice/digits" in result.stdout
    assert "datasets.load_dataset('alice/digits')" in result.stdout
    (created,) = hub.created
    assert created["type"] == "dataset"
    assert created.get("private") is True or created.get("visibility") == "private"
    sent = {name: data for name, data in hub.repositories["alice/digits"].items() if name != ".gitattributes"}
    assert {name.partition("/")[0] for name in sent} == {"README.md", "data", "labels"}
    for name, data in sent.items():
        path = tmp_path / "received" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    cache = str(tmp_path / "cache")
    for config, num_rows in (("default", 6), ("labels", 24)):
        found = datasets.load_dataset(str(tmp_path / "received"), config, cache_dir=cache)
        assert found["train"].num_rows == num_rows
    assert list(tmp_path.glob("prism-ray-*")) == []


@pytest.mark.parametrize(
    ("options", "settings", "code", "message"),
    [
        (("--push", "alice"), {}, 2, "'alice': not the name of a repository: .*give USER/NAME"),
        (("--push", "a/b/c"), {}, 2, "'a/b/c': not the name of a repository"),
        (("--push", "alice/x y"), {}, 2, "'alice/x y': not the name of a repository"),
        (("--push", "alice/x"), {"token": None}, 2, "there is none; run `hf auth login`, or set HF_TOKEN"),
        (("--push", "alice/x"), {"token": "hf_wrong"}, 2, "the token is not accepted; run `hf auth login`"),
        (("--push", "bob/x"), {}, 2, "the token has no right to write there: .*rights to create a dataset"),
        (("--push", "alice/full"), {}, 2, "the repository exists and has files; give a new name"),
        (("--push", "alice/x"), {"url": "http://127.0.0.1:9"}, 1, "cannot be reached.*HF_ENDPOINT"),
        (("--push", "alice/x"), {"offline": True}, 1, "cannot be reached.*HF_HUB_OFFLINE"),
        (("--push", "alice/x", "--to", "out"), {}, 2, "either a new folder with --to, or a new repository"),
        (("--push", "alice/x", "--as", "folder"), {}, 2, "--push sends a dataset; leave out"),
    ],
)
def test_what_cannot_be_sent_is_one_line(
    push: Callable[..., Result],
    hub: Hub,
    options: tuple[str, ...],
    settings: dict[str, Any],
    code: int,
    message: str,
) -> None:
    """Catches a traceback of huggingface_hub, and a repository that is written over."""
    import re

    hub.repositories["alice/full"] = {"README.md": b"of somebody else"}
    result = push(*options, **settings)
    assert result.exit_code == code, result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert re.search(message, line), line
    assert hub.repositories == {"alice/full": {"README.md": b"of somebody else"}}


def test_an_empty_repository_is_filled(hub: Hub, store: str, tmp_path: Path) -> None:
    """Catches a repository made on the web page that cannot be used, and labels that were not wanted."""
    hub.repositories["alice/digits"] = {".gitattributes": b""}
    result = send(hub, store, tmp_path, "--push", "alice/digits", "--without-labels")
    assert result.returncode == 0, result.stderr
    sent = {name.partition("/")[0] for name in hub.repositories["alice/digits"]}
    assert sent == {".gitattributes", "README.md", "data"}


def test_a_connection_that_breaks_off_is_one_line(hub: Hub, store: str, tmp_path: Path) -> None:
    """Catches a traceback of a thread after a gigabyte, and a copy that stays on the disk."""
    hub.refuses_objects = True
    result = send(hub, store, tmp_path, "--push", "alice/digits")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "error: --push 'alice/digits': " in result.stderr
    assert list(tmp_path.glob("prism-ray-*")) == []
