"""Local paths and URLs: what is told from what, and what cannot be used is refused in one line."""

import hashlib
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from prism_ray.errors import UsageError
from prism_ray.locations import READ_SCHEMES, STORE_SCHEMES, check_location, is_url, open_to_read


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("s3://bucket/run", True),
        ("S3://bucket/run", True),
        ("nope://x", True),
        ("file:///x", True),
        ("file:/x", True),
        ("s3:/bucket/run", True),
        ("zip::s3://bucket/x", True),
        ("simplecache::file:///x", True),
        ("/abs/run", False),
        ("./runs/a", False),
        ("C:/runs", False),
        ("c:run", False),
        ("a:b", False),
        ("s3:x", False),
        ("exp::seed0", False),
        ("sp/exp::seed0", False),
        ("./s3://bucket/run", False),
        ("runs/a://b", False),
        ("1x://y", False),
        ("://x", False),
        ("~/x", False),
    ],
)
def test_urls_are_told_from_paths(location: str, expected: bool) -> None:
    """A path with a colon taken for a URL, or a URL made into a folder called 's3:'."""
    assert is_url(location) is expected


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("hdfs://namenode/run", "hdfs:// is not supported"),
        ("ftp://host/run", "ftp:// is not supported"),
        ("zip:///tmp/x.zip", "zip:// is not supported"),
        ("http://host/run", "http:// is not supported"),
        ("nope://bucket", "nope:// is not supported"),
        ("s4://bucket/run", "s4:// is not supported"),
        ("S3://bucket/run", "write s3://"),
        ("memory://run", "the memory of one process cannot be seen by the actors"),
        ("file:///tmp/run", "give the path alone, /tmp/run"),
        ("file:/tmp/run", "give the path alone, /tmp/run"),
        ("local:///tmp/run", "give the path alone, /tmp/run"),
        ("simplecache::s3://bucket/run", "a chain of file systems is not supported"),
        ("s3:/bucket/run", "write s3://bucket/run, or ./s3:/bucket/run for a local path of that name"),
        ("s3://", "it names no bucket"),
        ("s3:///run", "it names no bucket"),
        ("", "is empty"),
        (" ", "is empty"),
        ("run\n1", "contains a control character"),
        ("run\0", "contains a control character"),
        ("s3://bucket/\x1b", "contains a control character"),
        ("run\udcff", "a byte that is not UTF-8"),
    ],
)
def test_what_cannot_hold_a_store_is_refused_in_one_line(location: str, reason: str) -> None:
    """50 to 135 lines of traceback, a store that fails unit by unit, or a folder called 's3:'."""
    with pytest.raises(UsageError) as caught:
        check_location(location, "store", STORE_SCHEMES)
    message = str(caught.value)
    assert f"store {location!r}" in message
    assert reason in message
    assert len(message.splitlines()) == 1
    if "not supported" in reason:
        assert "supported are local paths, s3:// or s3a:// (s3fs), gs://" in message


@pytest.mark.parametrize(
    ("scheme", "package", "wanted"),
    [("gs", "gcsfs", "gcsfs"), ("abfs", "adlfs", "adlfs"), ("s3", "s3fs", "prism-ray[s3]")],
)
def test_a_missing_package_is_named(
    scheme: str, package: str, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ImportError of fsspec, or an error that does not say what to install."""
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, scheme, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError) as caught:
        check_location(f"{scheme}://bucket/run", "store", STORE_SCHEMES)
    assert f"{scheme}:// needs the package {package}" in str(caught.value)
    assert str(caught.value).endswith(f"pip install '{wanted}'")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address of a web server that shows it."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_file_is_read_from_a_path_and_from_a_web_server(served: tuple[Path, str]) -> None:
    """A path with `::` or `#` that is opened as something else; a URL that can be read and is refused."""
    folder, url = served
    for name in ("plain", "a::b.pth", "a#b?c*.yaml", "[x] {y}"):
        (folder / name).write_bytes(name.encode())
        with open_to_read(str(folder / name), "file") as file:
            assert file.read(100) == name.encode()
    with open_to_read(f"{url}/plain", "file") as file:
        assert hashlib.file_digest(file, "sha256").digest() == hashlib.sha256(b"plain").digest()
    with pytest.raises(FileNotFoundError), open_to_read(f"{url}/none", "file"):
        pass
    with pytest.raises(OSError, match=r"."), open_to_read("http://127.0.0.1:1/x", "file"):
        pass


def test_what_cannot_be_read_is_refused() -> None:
    """A file of weights in memory://, which no actor can see."""
    for location in ("memory://x", "zip://a.pth::x.zip", "ftp://host/x", "file:///x"):
        with (
            pytest.raises(UsageError, match=r"file '.*' cannot be used: .*https://"),
            open_to_read(location, "file"),
        ):
            pass
    assert READ_SCHEMES.keys() > STORE_SCHEMES.keys()
