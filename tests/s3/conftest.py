"""An S3 server for a test."""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ports import free_ports
from tests.s3.reach import ServerStart

SERVER = Path(__file__).with_name("server.py")


@pytest.fixture
def start_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerStart]:
    """Start a server with faults, let this process and its children find it; return its address."""
    started: list[subprocess.Popen[bytes]] = []

    def start(**faults: int) -> str:
        (port,) = free_ports(1)
        url = f"http://127.0.0.1:{port}"
        command = [sys.executable, str(SERVER), str(port), json.dumps(faults)]
        with (tmp_path / "server.log").open("wb") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=log))
        for name, value in (
            ("AWS_ENDPOINT_URL", url),
            ("AWS_ACCESS_KEY_ID", "nobody"),
            ("AWS_SECRET_ACCESS_KEY", "nothing"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("FSSPEC_S3", json.dumps({"config_kwargs": {"read_timeout": 2}})),
        ):
            monkeypatch.setenv(name, value)
        deadline = time.monotonic() + 60.0
        while True:
            try:
                urllib.request.urlopen(
                    urllib.request.Request(f"{url}/bucket", method="PUT"), timeout=5
                ).close()
                return url
            except OSError:
                assert time.monotonic() < deadline, (tmp_path / "server.log").read_text()
                time.sleep(0.2)

    yield start
    for process in started:
        process.kill()
        process.wait()
