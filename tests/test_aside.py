"""A unit that is set aside: the rest is done, the run says what is missing, `retry` brings it back."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from prism_ray.errors import IncompleteError
from prism_ray.pipeline import check_none_left_out
from prism_ray.store import Failure, StoreFiles, set_aside
from tests.stores import committed

pytestmark = pytest.mark.ray

Run = Callable[..., "subprocess.CompletedProcess[str]"]
UNIT = "recover/distilled/i00002-c00000"
FULL_DISK = "recover/distilled/i00000-c00000"


@pytest.mark.timeout(200)
def test_what_does_not_build_on_it_is_done_and_retry_completes_the_run(
    cli: Run, digits_config: Path, small_options: list[str], store_with_teachers: Path
) -> None:
    """Catches an exit code 0 for a run with a gap, a student of half the images, and a gap that stays."""
    store = store_with_teachers
    files = StoreFiles(str(store))
    set_aside(files, Failure(UNIT, "EngineError", "not finite", "Traceback", "here"))
    set_aside(files, Failure(FULL_DISK, "StoreError", "no space left", "Traceback", "here"))
    set_aside(files, Failure("recover/of-another-config/x", "EngineError", "", "", "here"))
    arguments = ["distill", digits_config, *small_options, "--store", store]
    result = cli(*arguments)
    assert result.returncode == 1
    assert f"1 unit ({UNIT}) failed permanently" in result.stderr
    assert f"prism-ray retry --failed {store}" in result.stderr
    done = committed(store)
    assert UNIT not in done  # the same command does not try it again
    assert FULL_DISK in done  # what the store failed is tried again
    assert "relabel/distilled/g00000-e00000" in done  # its group is another
    assert "evaluate/random-real/student/s000" in done
    assert not any(unit.startswith(("evaluate/distilled", "measure/distilled")) for unit in done)
    assert cli("status", store).returncode == 3
    assert cli("retry", store, UNIT).returncode == 0
    result = cli(*arguments)
    assert result.returncode == 0, result.stderr
    assert "evaluate/distilled/student/s000" in committed(store)


@pytest.mark.parametrize(
    ("errors", "retries"),
    [(["StoreError"] * 2, 0), (["EngineError"] * 2, 1), (["StoreError", "EngineError"], 1)],
)
def test_a_full_disk_has_one_remedy(tmp_path: Path, errors: list[str], retries: int) -> None:
    """Catches `retry --failed` beside `free some space`: the next call tries these units by itself."""
    files = StoreFiles(str(tmp_path / "run"))
    problem = "part cannot be written: no space; free some space, then run the same command again"
    for number, error in enumerate(errors):
        set_aside(files, Failure(f"recover/x/{number}", error, problem, "Traceback", "here"))
    with pytest.raises(IncompleteError) as caught:
        check_none_left_out(files, ["recover"], ["recover/x/0", "recover/x/1"])
    message = str(caught.value)
    assert message.count("retry --failed") == retries
    assert message.count("free some space") == ("StoreError" in errors)
