"""Each command lists the commits once: behind a network a listing of a large run costs money and minutes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stores import copy_store

COUNTED = """
import sys
from prism_ray.cli import main
from prism_ray.store.files import StoreFiles

whole, num_listings = StoreFiles.list, 0

def counted(self, folder):
    global num_listings
    num_listings += folder == "commits"
    return whole(self, folder)

StoreFiles.list = counted
try:
    main()
finally:
    print("listings", num_listings, file=sys.stderr)
"""


def num_listings(*arguments: str | Path) -> int:
    """Run a command; return how often it listed the commits."""
    command = [sys.executable, "-c", COUNTED, *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return int(done.stderr.split()[-1])


@pytest.mark.ray
def test_commands_list_the_commits_once(
    calm: Path, tmp_path: Path, digits_config: Path, small_options: list[str]
) -> None:
    """Catches a listing for each of match, progress, save and the final table: five where one will do."""
    store = tmp_path / "run"
    copy_store(calm, store, lambda unit: not unit.startswith(("evaluate/", "measure/")))
    config = [digits_config, *small_options, "--store", store]
    assert num_listings("plan", *config) == 1
    assert num_listings("distill", *config) == 1  # with work to do
    assert num_listings("distill", *config) == 1  # with nothing to do
    for command in (["status"], ["verify"], ["show"], ["compact"], ["gc"]):
        assert num_listings(*command, store) == 1
    assert num_listings("export", store, "--to", tmp_path / "out") == 0  # it knows the names
