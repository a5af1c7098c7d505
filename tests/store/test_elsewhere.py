"""Names of parts in other stores of a sweep: where they lead, and where they must not."""

from pathlib import Path

import pytest

from prism_ray.errors import StoreError
from prism_ray.store import StoreFiles, write_part
from prism_ray.store.elsewhere import name_elsewhere, own_name
from prism_ray.store.sweeps import SweepRecord, write_sweep


@pytest.fixture
def folder(files: StoreFiles) -> StoreFiles:
    """The folder of a sweep with two points, on disk or behind a URL."""
    write_sweep(files, SweepRecord("s", {"a": {}, "b": {}}))
    files.create("a/images/part-0.parquet", b"of a")
    files.create("a/plan.json", b"{}")
    return files


def point(folder: StoreFiles, name: str) -> StoreFiles:
    return StoreFiles(f"{folder.location}/{name}")


def test_a_part_of_another_point_is_read_by_its_name(folder: StoreFiles) -> None:
    """Catches a reader that looks for the part in the point's own store."""
    one = point(folder, "b")
    name = name_elsewhere("a", "images/part-0.parquet")
    assert own_name(name) == "images/part-0.parquet"
    assert name_elsewhere("c", name) == name
    assert one.read(name) == b"of a"
    assert one.size(name) == 4
    assert list(one.list("elsewhere/a/images")) == [(name, 4)]
    with one.open(name) as file:
        assert file.read() == b"of a"


@pytest.mark.parametrize(
    "name",
    [
        "elsewhere/a/plan.json",  # not a part
        "elsewhere/a/commits/x.json",
        "elsewhere/../images/x",
        "elsewhere/a/../../images/x",
        "elsewhere/a/elsewhere/b/images/x",
        "elsewhere/.hidden/images/x",
        "elsewhere/sweep/images/x",
        "elsewhere/a",
        "elsewhere//images/x",
        "elsewhere/a b/images/x",
    ],
)
def test_a_name_leads_to_parts_of_points_only(folder: StoreFiles, name: str) -> None:
    """Catches a commit from a stranger that reads any file of the disk."""
    with pytest.raises(StoreError):
        point(folder, "b").size(name)


def test_nothing_is_written_or_deleted_there(folder: StoreFiles) -> None:
    """Catches a repair of one point that destroys another."""
    one, name = point(folder, "b"), name_elsewhere("a", "images/part-0.parquet")
    for change in (
        lambda: one.create(name, b"x"),
        lambda: one.replace(name, b"x"),
        lambda: one.delete(name),
        lambda: write_part(one, lambda attempt: name, b"x"),
    ):
        with pytest.raises(StoreError, match="nothing is written or deleted there"):
            change()
    assert folder.read("a/images/part-0.parquet") == b"of a"


def test_beside_a_store_that_is_in_no_sweep_nothing_is_read(files: StoreFiles) -> None:
    """Catches a store from a stranger that reads whatever lies beside it."""
    files.create("a/images/part-0.parquet", b"private")
    with pytest.raises(StoreError, match="the folder above it is no sweep"):
        point(files, "b").read(name_elsewhere("a", "images/part-0.parquet"))


def test_a_store_behind_a_link_has_its_sweep_where_it_is(tmp_path: Path) -> None:
    """Catches a store that is reached through a link, beside which other folders lie."""
    folder = StoreFiles(str(tmp_path / "all"))
    write_sweep(folder, SweepRecord("s", {"a": {}, "b": {}}))
    folder.create("a/images/part-0.parquet", b"of a")
    (tmp_path / "all" / "b").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "all" / "b")
    assert StoreFiles(str(tmp_path / "link")).read("elsewhere/a/images/part-0.parquet") == b"of a"
