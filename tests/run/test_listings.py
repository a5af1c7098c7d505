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


def num_listings(*arguments: str | Path, script: str = COUNTED) -> int:
    """Run a command; return how often it listed the commits."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
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


@pytest.mark.ray
def test_a_new_run_lists_them_once_too(tmp_path: Path, digits_config: Path, small_options: list[str]) -> None:
    """Catches an empty store that is listed again when the run is known."""
    config = [
        digits_config,
        *small_options,
        "--set",
        "teachers.pool=[{name: resnet, arch: 'timm:test_resnet'}]",
    ]
    assert num_listings("squeeze", *config, "--store", tmp_path / "run") == 1


@pytest.mark.ray
def test_what_another_driver_has_done_meanwhile_is_read_again(
    calm: Path, tmp_path: Path, digits_config: Path, small_options: list[str]
) -> None:
    """Catches work of another driver that is thrown away because it came after the listing."""
    store = tmp_path / "run"
    copy_store(calm, store, lambda unit: not unit.startswith(("evaluate/", "measure/")))
    held = next((store / "commits/relabel/distilled").glob("*.json"))
    hidden = tmp_path / "other"
    copy_store(calm, hidden, lambda unit: True)
    # A lease that was taken and let go after the first look: the commits of that driver count.
    script = COUNTED.replace(
        "StoreFiles.list = counted",
        f"""
import json, shutil
from pathlib import Path
from prism_ray.store import lease as lease_room

enter = lease_room.Lease.__enter__

def late(self):
    for name in ("commits/evaluate", "commits/measure", "students", "measures"):
        shutil.copytree({str(hidden)!r} + "/" + name, {str(store)!r} + "/" + name, dirs_exist_ok=True)
    last = lease_room.read_holder(self._files)
    values = {{**last.__dict__, "number": last.number + 1, "released": True}}
    Path({str(store)!r}, "lease", f"{{last.number + 1:06d}}.json").write_text(json.dumps(values))
    return enter(self)

lease_room.Lease.__enter__ = late
StoreFiles.list = counted
""",
    )
    assert held.exists()
    config = [digits_config, *small_options, "--store", store]
    assert num_listings("distill", *config, script=script) == 2
