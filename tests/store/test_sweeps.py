"""The records of a sweep's folder."""

import pytest

from prism_ray.errors import StoreError
from prism_ray.store import Commit, PartFile, StoreFiles, write_commit, write_part
from prism_ray.store.elsewhere import name_elsewhere
from prism_ray.store.gc import find_orphans
from prism_ray.store.sweeps import SweepRecord, folder_of, lent_parts, points_of, read_sweeps, write_sweep

UNIT = "recover/distilled/i00000-c00000"


def commit(files: StoreFiles, part: PartFile) -> None:
    write_commit(files, Commit(UNIT, "f", (part,), {}, 1.0, "here", "now"))


def test_points_that_a_file_no_longer_has_stay_known(files: StoreFiles) -> None:
    """Catches a point whose files others use, and which nobody knows any more."""
    write_sweep(files, SweepRecord("s", {"s.a": {"x": 1}, "s.b": {"x": 2}}))
    write_sweep(files, SweepRecord("other", {"other.a": {}}))
    write_sweep(files, SweepRecord("s", {"s.b": {"x": 2}, "s.c": {"x": 3}}))
    found = read_sweeps(files)
    assert list(found["s"].points) == ["s.b", "s.c"]
    assert found["s"].earlier == {"s.a": {"x": 1}}
    assert set(points_of(found)) == {"s.a", "s.b", "s.c", "other.a"}


@pytest.mark.parametrize("name", ["..", "../a", "a/b", "/etc", "sweep", ""])
def test_a_record_cannot_name_a_folder_outside(files: StoreFiles, name: str) -> None:
    """Catches a record from a stranger that makes `status` read another folder."""
    write_sweep(files, SweepRecord("s", {name: {}}))
    with pytest.raises(StoreError, match="is not the name of a point"):
        read_sweeps(files)


def test_gc_keeps_what_other_points_use(files: StoreFiles) -> None:
    """Catches a gc of one point that deletes the images of another."""
    write_sweep(files, SweepRecord("s", {"a": {}, "b": {}}))
    one, other = (StoreFiles(f"{files.location}/{name}") for name in ("a", "b"))
    part = write_part(one, lambda attempt: f"images/part-{attempt}.parquet", b"lent")
    orphan = write_part(one, lambda attempt: f"images/old-{attempt}.parquet", b"not lent")
    commit(other, PartFile(name_elsewhere("a", part.name), part.num_bytes, part.sha256))
    assert list(lent_parts(one)) == [part.name]
    assert list(lent_parts(other)) == []
    assert [each.name for each in find_orphans(one, 0.0)] == [orphan.name]
    above = folder_of(one)
    assert above is not None
    assert (above[0].location, above[1]) == (files.location, "a")
