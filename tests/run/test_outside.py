"""Files for people: where they go, and what is refused before the work for them."""

from pathlib import Path

import pytest

from prism_ray.errors import UsageError
from prism_ray.run.outside import check_target, write_for_people
from prism_ray.store import StoreFiles


def test_in_the_store_or_where_the_user_says(
    local: StoreFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a file that lands in a place that nobody named."""
    monkeypatch.chdir(tmp_path)
    where, note = write_for_people(local, "report/a.txt", b"one", None, "--to")
    assert (where, note) == (f"{local.location}/report/a.txt", "")
    assert Path(where).read_bytes() == b"one"
    assert write_for_people(local, "report/a.txt", b"two", "new/b.txt", "--to") == ("new/b.txt", "")
    assert Path("new/b.txt").read_bytes() == b"two"
    assert Path(where).read_bytes() == b"one"


def test_a_store_that_cannot_be_written_to(
    local: StoreFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a second call that stops at the file of the first one, or replaces it."""
    monkeypatch.chdir(tmp_path)
    Path(local.location).mkdir()
    Path(local.location, "report").write_text("no folder, so nothing can be written below it")
    said = [write_for_people(local, "report/a.txt", bytes([k]), None, "-o") for k in range(3)]
    assert [where for where, _ in said] == ["a.txt", "a-2.txt", "a-3.txt"]
    assert [Path(where).read_bytes() for where, _ in said] == [b"\0", b"\1", b"\2"]
    assert "a-3.txt is in the current folder (-o FILE: elsewhere)" in said[-1][1]


@pytest.mark.parametrize("target", ["{folder}", "{folder}/", "memory://x/a.html"])
def test_a_target_is_refused_before_the_work(target: str, tmp_path: Path) -> None:
    """Catches a command that computes for a minute and then says that it cannot write."""
    with pytest.raises(UsageError):
        check_target(target.format(folder=tmp_path), "-o", "report.html")
