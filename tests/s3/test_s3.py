"""The store on S3: a real server over HTTP, that fails as networks and services do."""

import hashlib
import json
import os
import subprocess
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from prism_ray.errors import StoreError
from prism_ray.parts.images import BatchLosses, ImageForm, read_batch, write_images
from prism_ray.stages.formation import Slot
from prism_ray.stages.recover import RecoverUnit
from prism_ray.store import PartFile, read_commit, read_part, revoke, write_commit, write_part
from prism_ray.store.commits import Commit, list_commits
from prism_ray.store.elsewhere import name_elsewhere
from prism_ray.store.sweeps import SweepRecord, lent_parts, read_sweeps, write_sweep
from tests.s3.reach import ServerStart, fresh
from tests.stores import committed, parts

pytest.importorskip("s3fs")
pytest.importorskip("moto")
pytestmark = [pytest.mark.s3, pytest.mark.timeout(280)]

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def faults_at(url: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{url}/faults", timeout=60) as answer:
        found: dict[str, int] = json.load(answer)
    return found


def test_files_are_created_once(start_server: ServerStart) -> None:
    """Catches a service whose conditional write is not asked for, and a listing that is remembered."""
    start_server()
    one, two = fresh("s3://bucket/run"), fresh("s3://bucket/run")
    assert list(two.list("images")) == []
    assert one.create("images/a", b"first")
    assert not two.create("images/a", b"second")
    assert one.create("images/b", b"")
    assert list(two.list("images")) == [("images/a", 5), ("images/b", 0)]
    assert two.read("images/a") == b"first"
    assert two.read_up_to("images/a", 2) == b"fi"
    assert two.read_up_to("images/b", 2) == two.read("images/b") == b""  # it has no first byte to ask for
    with pytest.raises(StoreError, match="images/c is missing"):
        two.read_up_to("images/c", 2)
    one.delete("images/a")
    one.delete("images/a")
    assert two.size("images/a") is None
    assert list(two.list("images")) == [("images/b", 0)]


def test_of_many_writers_one_is_first(start_server: ServerStart) -> None:
    """Catches two attempts that both believe to have committed."""
    start_server()
    files = fresh("s3://bucket/run")
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: files.create("commit", str(number).encode()), range(8)))
    assert sum(won) == 1
    assert files.read("commit") == str(won.index(True)).encode()


@pytest.mark.parametrize("faults", [{"before": 2}, {"after": 2}, {"taken": 3}])
def test_a_unit_is_committed_once_whatever_the_service_answers(
    faults: dict[str, int], start_server: ServerStart
) -> None:
    """Catches a part lost with its answer, a commit believed to be another's, a unit that counts twice."""
    url = start_server(**faults)
    files = fresh("s3://bucket/run")
    for number in range(3):
        data = f"part {number}".encode()
        commit = None
        for _ in range(20):  # an attempt may fail as a whole; the scheduler tries again
            part = write_part(files, lambda attempt, number=number: f"images/{number}-{attempt}", data, 1)
            commit = Commit(f"recover/a/{number}", "f", (part,), {}, 1.0, "here", "now")
            if write_commit(files, commit) or files.exists(f"commits/recover/a/{number}.json"):
                break
        assert commit is not None
        held = read_commit(files, commit.unit)
        assert held.files[0].sha256 == hashlib.sha256(data).hexdigest()
        assert files.read(held.files[0].name) == data
        assert isinstance(held.files[0], PartFile)
    assert len(list(list_commits(files))) == 3
    assert sum(faults_at(url).values()) > 0


def test_png_files_are_written_and_read_whatever_the_service_answers(start_server: ServerStart) -> None:
    """Catches images of a batch, written many at a time, that are lost or doubled with an answer."""
    url = start_server(before=5, after=7, taken=11)
    files = fresh("s3://bucket/run")
    slots = tuple(Slot(label, 0) for label in range(12))
    unit = RecoverUnit("distilled", "i00000-c00000", slots, (7,) * 12, (("a",),), 5)
    images = np.random.default_rng(0).integers(0, 256, (12, 3, 8, 8), dtype=np.uint8)
    names = [str(label) for label in range(12)]
    parts = write_images(files, unit, images, names, "png", BatchLosses(0.5, 0.25, {}))
    again = write_images(files, unit, images, names, "png", BatchLosses(0.5, 0.25, {}))
    assert {part.name.rpartition("/")[2] for part in parts[1:]} <= {"00000-0.png", "00000-1.png"}
    form = ImageForm(channels=3, size=8, max_images=12, num_classes=12, ipc=1)
    for attempt in (parts, again):
        commit = Commit(unit.id, "f", attempt, {}, 1.0, "here", "now")
        _, stored = read_batch(files, commit, form)
        assert stored.slots == slots
        assert np.array_equal(stored.images, images)
    assert all(faults_at(url).values())


@pytest.mark.ray
def test_points_of_a_sweep_share_parts_by_reference(start_server: ServerStart) -> None:
    """Catches sharing that needs links, a sweep's folder that is not seen, and writes to another point."""
    start_server()
    folder, one, other = (fresh(f"s3://bucket/all{name}") for name in ("", "/s.a", "/s.b"))
    part = write_part(one, lambda attempt: f"teachers/a/weights-{attempt}.safetensors", b"weights")
    name = name_elsewhere("s.a", part.name)
    with pytest.raises(StoreError, match="the folder above it is no sweep"):
        other.size(name)
    write_sweep(folder, SweepRecord("s", {"s.a": {"seed": 0}, "s.b": {"seed": 1}}))
    assert read_sweeps(folder)["s"].points["s.b"] == {"seed": 1}
    shared = PartFile(name, part.num_bytes, part.sha256)
    write_commit(other, Commit("squeeze/a", "f", (shared,), {}, 1.0, "here", "now"))
    assert read_part(other, read_commit(other, "squeeze/a").files[0]) == b"weights"
    assert list(other.list("elsewhere/s.a/teachers")) == [(name, 7)]
    assert list(lent_parts(one)) == [part.name]
    with pytest.raises(StoreError, match="nothing is written or deleted there"):
        other.delete(name)
    revoke(other, "squeeze/a")
    assert one.read(part.name) == b"weights"


def test_the_digits_job_on_s3_makes_the_same_bytes(
    start_server: ServerStart,
    cli: Run,
    environment: dict[str, str],
    digits_config: Path,
    small_options: list[str],
    calm: Path,
    tmp_path: Path,
) -> None:
    """Catches whatever differs between a folder and a service that fails at times."""
    url = start_server(before=17, after=29, slow=61, taken=41)
    aws = {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "FSSPEC_"))}
    quick = ["--set", "orchestrate.max_attempts=10"]
    rough = cli("distill", digits_config, *small_options, *quick, "--store", "s3://bucket/run", **aws)
    assert rough.returncode == 0, rough.stderr
    counts = faults_at(url)
    assert all(counts.values()), counts
    again = cli("distill", digits_config, *small_options, *quick, "--store", "s3://bucket/run", **aws)
    assert "Nothing to do" in again.stdout, again.stderr
    checked = cli("verify", "s3://bucket/run", **aws)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    files = fresh("s3://bucket/run")
    for folder in ("commits", "images", "labels", "sets", "teachers"):
        for name, _ in files.list(folder):
            path = tmp_path / "fetched" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(files.read(name))
    assert committed(tmp_path / "fetched") == committed(calm)
    assert parts(tmp_path / "fetched") == parts(calm)
