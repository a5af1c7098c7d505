"""Records of what the calls on a store counted."""

from pathlib import Path

import pytest

from prism_ray.errors import StoreError
from prism_ray.run.calls import Call, read_calls, write_call
from prism_ray.run.live import LiveWriter
from prism_ray.store import Lease, StoreFiles, layout
from tests.run.test_live import LIVE

CALL = Call(12.5, 5, 2, 1, 0.5, ("cpu",), "here")


def test_each_driver_has_a_record_of_its_own(files: StoreFiles) -> None:
    """Catches a second call that replaces the counts of the first, or counts that go when the driver ends."""
    assert read_calls(files) == []
    for _ in range(2):
        with (
            Lease(files, 20.0, lambda text: None) as lease,
            LiveWriter(files, lambda: LIVE, also=lambda: write_call(files, lease.number, lambda: CALL)),
        ):
            pass
    assert read_calls(files) == [CALL, CALL]
    assert not files.exists(layout.LIVE)


@pytest.mark.parametrize("data", [b"", b"{}", b'{"seconds": -1}', b"[1]"])
def test_a_damaged_record_is_left_out(data: bytes, files: StoreFiles) -> None:
    """Catches a report that fails because of a file that nothing depends on."""
    write_call(files, 1, lambda: CALL)
    files.replace(layout.call(2), data)
    assert read_calls(files) == [CALL]


def test_a_store_that_refuses_it_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a run that fails at its end because of a count."""
    files = StoreFiles(str(tmp_path))

    def refuse(name: str, data: bytes) -> None:
        raise StoreError("no space left")

    monkeypatch.setattr(files, "replace", refuse)
    write_call(files, 1, lambda: CALL)
    assert read_calls(files) == []
