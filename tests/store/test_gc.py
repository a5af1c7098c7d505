"""What nothing needs is found; what something needs is not."""

import os
import time

import pytest

from prism_ray.errors import StoreError
from prism_ray.store import Commit, StoreFiles, layout, write_commit, write_part
from prism_ray.store.gc import find_orphans

UNIT = "recover/distilled/i00000-c00000"
OTHER = "recover/distilled/i00001-c00000"


def fill(files: StoreFiles) -> None:
    """A unit that is committed, one in the making, and what cut-off attempts leave behind."""
    part = write_part(files, lambda attempt: f"images/part-i00000-c00000-{attempt}.parquet", b"good", 1)
    write_commit(files, Commit(UNIT, "f", (part,), {}, 1.0, "here", "now"))
    files.create("images/part-i00000-c00000-1.parquet", b"of an attempt that came second")
    files.create("sets/rded/labels/part-g00000-e00000-0.parquet", b"not committed")
    files.create("wip/aside-0123456789abcdef", b"half")
    files.create(layout.checkpoint(UNIT), b"left over")
    files.create(layout.checkpoint(OTHER), b"to go on from")
    for name in (layout.PLAN, layout.CONFIG, layout.DATA_INDEX, layout.failure(UNIT, 1), layout.lease(1)):
        files.create(name, b"{}")


def test_only_what_nothing_needs_is_found(files: StoreFiles) -> None:
    """Catches a collector that takes a part, a run's own files, or the state of a batch in the making."""
    fill(files)
    assert sorted(orphan.name for orphan in find_orphans(files, 0.0)) == [
        "images/part-i00000-c00000-1.parquet",
        "sets/rded/labels/part-g00000-e00000-0.parquet",
        "wip/aside-0123456789abcdef",
        layout.checkpoint(UNIT),
    ]


def test_what_is_young_stays(local: StoreFiles) -> None:
    """Catches a part deleted between its writing and its commit."""
    fill(local)
    assert list(find_orphans(local, 3600.0)) == []
    old = "images/part-i00000-c00000-1.parquet"
    then = time.time() - 7200.0
    os.utime(local.path(old), (then, then))
    (orphan,) = find_orphans(local, 3600.0)
    assert (orphan.name, orphan.num_bytes) == (old, len(b"of an attempt that came second"))


def test_a_damaged_commit_ends_the_search(files: StoreFiles) -> None:
    """Catches the parts of a commit that cannot be read being taken for orphans."""
    fill(files)
    files.replace(layout.commit(UNIT), b"{")
    with pytest.raises(StoreError, match=r"\.json is damaged"):
        list(find_orphans(files, 0.0))
