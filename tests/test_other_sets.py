"""Image sets that the present config does not name: every command on the store still knows them."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

from prism_ray.cli import main
from prism_ray.config import load_config
from prism_ray.data import open_data
from prism_ray.run import load_run, new_run, read_progress
from prism_ray.store import Lease, StoreFiles, layout
from tests.filled import finish

FIRST: dict[str, Any] = {
    "store": "not used",
    "data": {"source": "digits", "image_size": 8},
    "teachers": {"pool": [{"name": "a", "arch": "timm:x"}]},
    "recover": {"ipc": 2, "primary": "a", "iterations": 9, "iterations_step": 0},
    "relabel": {"epochs": 4, "epochs_per_unit": 2},
    "evaluate": {"student": {"arch": "timm:x"}, "num_students": 2},
    "orchestrate": {"threads_per_actor": 1},
}
MORE = FIRST | {
    "image_sets": {
        "distilled": {},
        "random-real": {"method": "random-real"},
        "edc": {},
        "sre": {"method": "sre2l"},
    }
}
NOTE = "not in the present config"


def invoke(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def config_file(folder: Path, values: dict[str, Any], name: str = "config.yaml") -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump(values))
    return path


def filled(folder: Path, values: dict[str, Any], **changes: Any) -> Path:
    """Make the store of a finished run; return its folder."""
    store = folder / "run"
    config = load_config(config_file(folder, values | changes, "made.yaml"), store=str(store))
    finish(StoreFiles(str(store)), new_run(config, open_data(config.data).facts(), 1))
    return store


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with four sets, whose last `distill` named two of them."""
    store = filled(tmp_path, MORE)
    code, output = invoke("distill", config_file(tmp_path, FIRST), "--store", store)
    assert code == 0, output
    assert "Nothing to do" in output
    return store


def test_nothing_vanishes_when_an_older_config_is_used(store: Path, tmp_path: Path) -> None:
    """Catches finished sets that vanish from the tables when `distill` gets an older config once."""
    invoke("distill", tmp_path / "config.yaml", "--store", store)
    _, output = invoke("status", store)
    assert f"In the store, but {NOTE}" in output
    assert f"Students {NOTE}" in output
    assert output.index("distilled + soft") < output.index(f"Students {NOTE}") < output.index("edc + soft")
    assert "sre2l" in output


def test_status_lists_them_as_such(store: Path) -> None:
    """Catches a `status` that knows only the sets of the last config, or takes the others for its own."""
    code, output = invoke("status", store)
    assert code == 0
    assert f"Students {NOTE}" in output
    found = json.loads(invoke("status", store, "--json")[1])
    assert found["complete"] is True
    assert {row["image_set"] for row in found["results"]["rows"]} == {"distilled", "random-real"}
    assert {row["image_set"] for row in found["other_results"]["rows"]} == {"edc", "sre"}
    assert [(one["name"], one["method"]) for one in found["other_sets"]] == [
        ("edc", "prism"),
        ("sre", "sre2l"),
    ]
    assert found["other_sets"][0]["stages"] == {
        "recover": [2, 2], "relabel": [2, 2], "measure": [1, 1], "evaluate": [2, 2],
    }  # fmt: skip
    recover = next(stage for stage in found["stages"] if stage["stage"] == "recover")
    assert (recover["num_done"], recover["num_units"]) == (4, 4)


def test_export_and_show_and_verify_know_them(store: Path, tmp_path: Path) -> None:
    """Catches images that are in the store and that no command hands out or checks."""
    code, output = invoke("export", store, "--to", tmp_path / "out", "--image-set", "edc")
    assert code == 0, output
    assert f"20 images of edc ({NOTE}) are in" in output
    code, output = invoke("show", store)
    assert code == 0
    with Image.open(store / "report" / "sheet.png") as sheet:
        assert sheet.height > sheet.width  # two rows of blocks: four sets
    code, output = invoke("verify", store)
    assert code == 0
    assert f"recover/edc: 2 units are whole ({NOTE})" in output
    (part,) = list((store / "sets/edc/images").glob("part-i00001*.parquet"))
    part.write_bytes(b"x" * part.stat().st_size)
    code, output = invoke("verify", store)
    assert code == 3
    assert f"damaged: recover/edc/i00001-c00000: {part.relative_to(store)} has another SHA-256" in output
    assert f"Units that are {NOTE} are pending again" in invoke("verify", "--repair", store)[1]
    assert json.loads(invoke("status", store, "--json")[1])["other_sets"][0]["stages"]["recover"] == [1, 2]


def test_export_names_the_sets_that_there_are(store: Path, tmp_path: Path) -> None:
    """Catches a typo answered with the sets of the present config alone."""
    code, output = invoke("export", store, "--to", tmp_path / "out", "--image-set", "ecd")
    assert code == 2
    assert "no image set 'ecd'; did you mean 'edc'?; it has distilled, random-real, edc, sre" in output


def test_they_are_merged_and_kept_by_compact_and_gc(store: Path, tmp_path: Path) -> None:
    """Catches small files that stay, or files deleted because the last config does not name them."""
    assert invoke("compact", store)[0] == 0
    assert list((store / "sets/edc/images").glob("merged-*.parquet"))
    assert invoke("gc", store, "--older-than", "0")[0] == 0
    assert not list((store / "sets/edc/images").glob("part-*.parquet"))
    assert invoke("verify", store)[0] == 0
    assert invoke("export", store, "--to", tmp_path / "out", "--image-set", "edc")[0] == 0


def test_runs_are_compared_whatever_config_came_last(store: Path, tmp_path: Path) -> None:
    """Catches a comparison that is refused, or that lacks a row, because an old config was used last."""
    for name in ("two", "three"):
        (tmp_path / name).mkdir()
    second = filled(tmp_path / "two", MORE, seed=1)
    code, output = invoke("compare", store, second, "--baseline", "random-real")
    assert code == 0, output
    assert all(f"| {name} |" in output for name in ("distilled", "random-real", "edc", "sre"))
    assert "note" not in output
    third = filled(tmp_path / "three", FIRST, seed=2)
    code, output = invoke("compare", store, third, "--baseline", "random-real")
    assert code == 0, output
    assert f"note: edc (student), sre (student): left out, because not all runs have it ({NOTE})" in output
    code, output = invoke("compare", second, third)
    assert code == 2
    assert f"\n  image set edc: only {second} has it\n  image set sre: only {second} has it\n" in output


def test_the_larger_config_takes_them_back(store: Path, tmp_path: Path) -> None:
    """Catches units that are made again, or that stay under the note, when they are named again."""
    code, output = invoke("distill", tmp_path / "made.yaml", "--store", store)
    assert (code, "Nothing to do" in output, NOTE in output) == (0, True, False)
    assert load_run(StoreFiles(str(store))).earlier == ()


def test_more_students_than_the_present_config_asks_for_are_shown(tmp_path: Path) -> None:
    """Catches finished students that are hidden by a smaller num_students."""
    store = filled(tmp_path, FIRST)
    config = config_file(tmp_path, FIRST)
    assert invoke("distill", config, "--store", store, "--set", "evaluate.num_students=1")[0] == 0
    found = json.loads(invoke("status", store, "--json")[1])
    assert [len(row["accuracies"]) for row in found["results"]["rows"]] == [1, 1]
    assert [len(row["accuracies"]) for row in found["other_results"]["rows"]] == [2, 2]


def test_each_of_several_configs_is_kept_as_long_as_it_is_needed(tmp_path: Path) -> None:
    """Catches a store that remembers only the config before the present one, or every config for ever."""
    sets = {"distilled": {}, "edc": {}, "sre": {"method": "sre2l"}}
    store = filled(tmp_path, FIRST | {"image_sets": sets})
    files = StoreFiles(str(store))
    for name in ("distilled", "edc", "distilled", "sre", "distilled"):
        config = config_file(tmp_path, FIRST | {"image_sets": {name: sets[name]}})
        assert invoke("distill", config, "--store", store)[0] == 0
        run = load_run(files)
        assert set(run.image_sets) == sets.keys()
        assert next(iter(run.image_sets)) == name
        assert len(run.earlier) <= 3
        assert read_progress(files, run).complete


def test_a_store_that_forgot_a_config_names_the_set(store: Path, tmp_path: Path) -> None:
    """Catches sets of a store of an earlier version, which kept no earlier configs, that nobody tells of."""
    values = json.loads((store / layout.PLAN).read_text())
    del values["earlier"]
    (store / layout.PLAN).write_text(json.dumps(values))
    code, output = invoke("status", store)
    assert code == 0
    assert f"In the store, but {NOTE}" in output
    assert "edc" in output
    assert "2/?" in output
    code, output = invoke("export", store, "--to", tmp_path / "out", "--image-set", "edc")
    assert code == 2
    assert f"run `prism-ray distill CONFIG --store {store}` once with a config that names it" in output
    invoke("distill", tmp_path / "made.yaml", "--store", store)
    invoke("distill", tmp_path / "config.yaml", "--store", store)
    assert invoke("export", store, "--to", tmp_path / "out", "--image-set", "edc")[0] == 0


def test_export_to_a_place_that_is_no_folder_is_wrong_input(store: Path, tmp_path: Path) -> None:
    """Catches exit code 1 and the advice to free some space for a file given as --to."""
    (tmp_path / "file").write_text("x")
    code, output = invoke("export", store, "--to", tmp_path / "file")
    assert code == 2
    assert "--to" in output
    assert "free some space" not in output


def test_status_says_that_a_driver_is_at_work(store: Path) -> None:
    """Catches the advice to start a second driver while the first one works."""
    (store / "commits/evaluate/distilled/student/s000.json").unlink()
    assert "Incomplete. Next: prism-ray distill" in invoke("status", store)[1]
    with Lease(StoreFiles(str(store)), 30.0, print):
        output = invoke("status", store)[1]
        assert f"Driver        process {os.getpid()} on " in output
        assert f"Incomplete, and the driver is at work. Next: prism-ray status --watch {store}" in output
        found = json.loads(invoke("status", store, "--json")[1])
        assert (found["driver"]["alive"], found["driver"]["pid"]) == (True, os.getpid())
        assert [stage["state"] for stage in found["stages"]][-1] == "running"
    assert json.loads(invoke("status", store, "--json")[1])["driver"] is None


def test_an_unfinished_set_says_how_far_it_is(tmp_path: Path) -> None:
    """Catches `[Errno 2] ...json` for an image set of which some batches are missing."""
    store = filled(tmp_path, MORE)
    (store / "commits/recover/edc/i00001-c00000.json").unlink()
    code, output = invoke("export", store, "--to", tmp_path / "out", "--image-set", "edc")
    assert code == 2
    assert "the image set 'edc' is not finished, 1 of 2 batches are done; finish it with `prism-ray" in output
    assert not (tmp_path / "out").exists()
    invoke("distill", config_file(tmp_path, FIRST), "--store", store)
    output = invoke("export", store, "--to", tmp_path / "out", "--image-set", "edc")[1]
    assert f"1 of 2 batches are done; it is {NOTE}" in output
