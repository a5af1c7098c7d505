"""A store from elsewhere, through the command line.

Nothing outside it is touched, nothing runs, nothing grows without bound, and every command ends with a clear
error or names the damage. What each file may hold is tested beside the module that reads it.
"""

import hashlib
import io
import json
import os
import re
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from prism_ray.cli import main
from prism_ray.config import parse_config
from prism_ray.data import DataFacts
from prism_ray.run import Run, new_run
from prism_ray.store import Failure, StoreFiles, layout, record_failure
from tests.filled import finish

BATCH = "recover/distilled/i00000-c00000"
LABELS = "relabel/distilled/g00000-e00000"
# What reads a store; all but the last change nothing in it.
COMMANDS = (
    ["status"],
    ["verify"],
    ["show"],
    ["failures"],
    ["gc", "--older-than", "0"],
    ["verify", "--repair"],
)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`show` writes to the current folder if the store's cannot be used."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run() -> Run:
    values: dict[str, Any] = {
        "store": "somewhere",
        "data": {"source": "digits", "image_size": 8},
        "teachers": {"pool": [{"name": name, "arch": "timm:x"} for name in ("a", "b")]},
        "recover": {"ipc": 2, "primary": "a", "iterations": 9, "iterations_step": 0},
        "relabel": {"epochs": 4, "epochs_per_unit": 2},
        "evaluate": {"student": {"arch": "timm:x"}, "num_students": 1},
    }
    facts = DataFacts(("x", "y", "z"), (5, 5, 5), num_test_images=3, channels=1, identity="some data")
    return new_run(parse_config(values, "test"), facts, num_threads=1)


@pytest.fixture
def files(tmp_path: Path, run: Run) -> StoreFiles:
    """The store of a finished run."""
    files = StoreFiles(str(tmp_path / "run"))
    finish(files, run)
    return files


def call(files: StoreFiles, *arguments: str) -> Result:
    """Run a command on the store in this process; only an exit may come out, and without much work."""
    started = time.process_time()
    result = CliRunner().invoke(main, [*arguments, files.location])
    assert result.exception is None or isinstance(result.exception, SystemExit), (arguments, result.exception)
    assert time.process_time() - started < 10.0, arguments
    return result


def forge(files: StoreFiles, unit_id: str, changes: dict[str, Any]) -> None:
    """Change what a unit's commit says."""
    name = layout.commit(unit_id)
    values = json.loads(files.read(name)) | changes
    files.replace(name, json.dumps(values).encode())


def replace_part(files: StoreFiles, unit_id: str, data: bytes, num_rows: int | None = None) -> str:
    """Put other bytes in the place of a unit's file, and let its commit vouch for them; return its name."""
    (part,) = json.loads(files.read(layout.commit(unit_id)))["files"]
    files.replace(part["name"], data)
    part |= {"num_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    part["num_rows"] = part["num_rows"] if num_rows is None else num_rows
    forge(files, unit_id, {"files": [part]})
    return str(part["name"])


def test_the_store_of_these_tests_is_whole(files: StoreFiles) -> None:
    """Catches every command below complaining of something else."""
    for arguments in COMMANDS[:3]:
        assert call(files, *arguments).exit_code == 0
    assert "Complete and whole." in call(files, "verify").stdout


JUNK: dict[str, bytes] = {
    "empty": b"",
    "zeros": bytes(1000),
    "another type": b"[1, 2]",
    "deep": b"[" * 200_000,
    "a long number": b'{"a": ' + b"9" * 100_000 + b"}",
    "NaN": b'{"unit": NaN, "format": NaN}',
    "no Unicode": b'{"unit": "\xff\xfe"}',
    "10 MB": b'{"a": [' + b"[]," * 3_500_000 + b"[]]}",
}


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK.keys())
@pytest.mark.parametrize(
    "name",
    [
        layout.PLAN,
        layout.commit(BATCH),
        layout.commit("squeeze/a"),
        layout.failure(BATCH, 1),
        layout.aside(BATCH),
        layout.lease(1),
    ],
)
def test_a_record_that_is_none_ends_no_command_in_a_traceback(
    files: StoreFiles, name: str, junk: bytes
) -> None:
    """Catches RecursionError, ValueError and gigabytes for one file of JSON, in whichever record it is."""
    files.replace(name, junk)
    for arguments in COMMANDS:
        result = call(files, *arguments)
        out = result.stdout + result.stderr
        assert len(out) < 20_000
        if name == layout.PLAN:
            assert result.exit_code == 1
            assert f"{files.location}/plan.json is damaged: " in out
        elif name.startswith("commits/") and arguments[0] in ("status", "verify"):
            assert f"{files.location}/{name} is damaged: " in out or "--repair" in arguments
        elif name.startswith("failures/") and arguments == ["failures"]:
            # `verify --repair` comes before it among the commands, and has deleted it
            assert f"{files.location}/{name} is damaged: " in out or not files.exists(name)


@pytest.mark.parametrize(
    "name", ["../precious", "/{outside}", "images/../../precious", "~/precious", "wip/../x"]
)
def test_a_commit_that_names_files_elsewhere_is_none(files: StoreFiles, name: str, tmp_path: Path) -> None:
    """Catches a path out of the store, read by `verify` and deleted by `verify --repair` or `gc`."""
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    part = {"name": name.format(outside=precious), "num_bytes": 1, "sha256": "0"}
    forge(files, BATCH, {"files": [part]})
    for arguments in COMMANDS:
        call(files, *arguments)
    assert precious.read_bytes() == b"mine"


@pytest.mark.parametrize(
    "name", [layout.PLAN, layout.CONFIG, layout.commit("squeeze/a"), "failures/squeeze/a-1.json"]
)
def test_what_is_no_part_is_not_deleted_with_a_commit(files: StoreFiles, name: str) -> None:
    """Catches a repair that deletes the run's own files, because a commit calls them damaged parts."""
    record_failure(files, Failure("squeeze/a", "EngineError", "not finite", "tb", "here"))
    before = files.read(name)
    forge(files, BATCH, {"files": [{"name": name, "num_bytes": 1, "sha256": "0"}]})
    assert call(files, "verify", "--repair").exit_code == 3
    assert not files.exists(layout.commit(BATCH))
    assert files.read(name) == before


@pytest.mark.parametrize("folder", ["images", "students", "wip", "commits/recover", "report", "lease"])
def test_links_out_of_the_store_are_no_way_to_write_or_delete(
    files: StoreFiles, folder: str, tmp_path: Path
) -> None:
    """Catches `gc` that takes the files of a home for orphans, because a folder of the store is a link."""
    outside = tmp_path / "home"
    (outside / "sub").mkdir(parents=True)
    for name in ("sub/precious", "part-0.parquet", "000001.json"):
        (outside / name).write_bytes(b"mine")
    place = Path(files.location) / folder
    if place.exists():
        place.rename(tmp_path / "moved")
    os.symlink(outside, place)
    for arguments in COMMANDS:
        call(files, *arguments)
    assert {path.relative_to(outside).as_posix() for path in outside.rglob("*") if path.is_file()} == {
        "sub/precious",
        "part-0.parquet",
        "000001.json",
    }
    assert all(path.read_bytes() == b"mine" for path in outside.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", [layout.PLAN, layout.commit(BATCH), "images/part-i00000-c00000-0.parquet"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_pipes_and_devices_are_no_files(files: StoreFiles, name: str, kind: str) -> None:
    """Catches a command that waits for ever on a pipe, or reads a device that has no end."""
    path = files.path(name)
    os.unlink(path)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        os.symlink("/dev/zero", path)
    for arguments in COMMANDS:
        call(files, *arguments)


def with_rows(data: bytes, change: Callable[[list[dict[str, Any]]], object], **options: Any) -> bytes:
    """Change the rows of an image part."""
    table = pq.read_table(io.BytesIO(data))
    rows = table.to_pylist()
    change(rows)
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, table.schema), sink, **options)
    return sink.getvalue()


def large_png(side: int) -> bytes:
    sink = io.BytesIO()
    Image.new("L", (side, side)).save(sink, format="PNG")
    return sink.getvalue()


HARMS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "truncated": (lambda data: data[:-10], "not a Parquet file"),
    "half": (lambda data: data[: len(data) // 2], "not a Parquet file"),
    "a row less": (lambda data: with_rows(data, lambda rows: rows.pop()), "2 rows, not 3"),
    "a large image": (
        lambda data: with_rows(data, lambda rows: rows[0]["image"].update(bytes=large_png(5000))),
        "image 0 of class 0 is L of 5000 x 5000 pixels, not L of 8 x 8",
    ),
    "no image": (
        lambda data: with_rows(data, lambda rows: rows[1].update(image=None)),
        "image 0 of class 1 is missing",
    ),
    "a class that is none": (
        lambda data: with_rows(data, lambda rows: rows[2].update(label=-1)),
        "there is no image 0 of class -1",
    ),
    "a bomb": (
        lambda data: with_rows(
            data,
            lambda rows: [row["image"].update(bytes=bytes(30 * 2**20)) for row in rows],
            compression="zstd",
        ),
        "it unpacks to more than",
    ),
}


@pytest.mark.parametrize(("harm", "problem"), HARMS.values(), ids=HARMS.keys())
def test_images_that_are_not_what_their_commit_says(
    files: StoreFiles, harm: Callable[[bytes], bytes], problem: str, tmp_path: Path
) -> None:
    """Catches a decompression bomb, wrong rows and a truncated file in each command that reads images."""
    name = "images/part-i00000-c00000-0.parquet"
    replace_part(files, BATCH, harm(files.read(name)))
    whole = f"{files.location}/{name} is damaged: "
    verified = call(files, "verify")
    assert verified.exit_code == 3
    assert re.search(re.escape(whole) + f".*{problem}", verified.stdout)
    shown = call(files, "show")
    assert shown.exit_code == 1
    assert re.search(
        re.escape(f"error: {whole}") + f".*{problem}.*; run `prism-ray verify --repair ", shown.stderr
    )
    for kind in ("folder", "dataset"):
        result = call(files, "export", "--to", str(tmp_path / kind), "--as", kind)
        assert result.exit_code == 1
        assert re.search(re.escape(f"error: {whole}") + f".*{problem}", result.stderr)
    assert call(files, "verify", "--repair").exit_code == 3
    assert not files.exists(layout.commit(BATCH))


def test_labels_of_a_million_rows_are_not_unpacked(files: StoreFiles) -> None:
    """Catches a row that is said once for ten million, which 40 kB hold."""
    (part,) = json.loads(files.read(layout.commit(LABELS)))["files"]
    table = pq.read_table(io.BytesIO(files.read(part["name"])))
    count = 10**6
    columns = [
        pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(3 * count, np.float16)), 3)
        if field.name == "logits"
        else pa.array(np.zeros(count, np.int8)).cast(field.type)
        for field in table.schema
    ]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(columns, schema=table.schema), sink, row_group_size=count)
    assert len(sink.getvalue()) < 200_000
    for num_rows, problem in (
        (count, "has 1000000 rows, and it must have"),
        (part["num_rows"], "1000000 rows, not 12"),
    ):
        replace_part(files, LABELS, sink.getvalue(), num_rows)
        assert problem in call(files, "verify").stdout


CONFIGS: dict[str, tuple[str, str]] = {
    "aliases": (
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{c}: &{c} [{','.join([f'*{b}'] * 9)}]\n" for b, c in pairwise("abcdefghijkl")),
        "more than 200,000 values",
    ),
    "a tag that runs": ("seed: !!python/object/apply:os.system ['touch ran']", "could not determine"),
    "deep": ("seed: " + "[" * 10**5, "nested more than 50 deep"),
    "large": ("# " + "x" * 10 * 2**20, "more than 1,048,576 bytes"),
    "a device": ("teachers: {pool: [{name: a, arch: 'timm:x@/dev/zero'}]}", "not a regular file"),
    "no end": (
        "evaluate: {student: {arch: 'timm:x'}, num_students: 1000000000000}",
        "4,000,000,000,000 units",
    ),
}


@pytest.mark.parametrize(("text", "problem"), CONFIGS.values(), ids=CONFIGS.keys())
def test_a_config_from_elsewhere_is_refused(
    text: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a few lines that fill the memory, run a command, or keep `plan` busy for ever."""
    monkeypatch.chdir(tmp_path)
    values = {
        "store": "run",
        "data": "{source: digits, image_size: 8}",
        "teachers": "{pool: [{name: a, arch: 'timm:x'}]}",
        "recover": "{ipc: 2, primary: a, iterations: 9, iterations_step: 0}",
        "evaluate": "{student: {arch: 'timm:x'}, num_students: 1}",
    }
    base = "".join(f"{key}: {value}\n" for key, value in values.items() if not text.startswith(f"{key}: "))
    Path("config.yaml").write_text(base + text + "\n")
    started = time.process_time()
    result = CliRunner().invoke(main, ["plan", "config.yaml"])
    assert time.process_time() - started < 10.0
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == 2
    assert problem in result.stderr
    assert len(result.stderr) < 2000
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_text_of_a_store_does_not_steer_the_terminal(files: StoreFiles) -> None:
    """Catches escape sequences in a message, a host or a file's name, which a terminal would follow."""
    record = {"unit_id": "a", "error": "E", "traceback": "t", "failed_at": "now"}
    evil = "\x1b]0;owned\x07\x9b31m"
    record |= {"message": f"one{evil}\ntwo", "host": f"here{evil}"}
    files.replace(layout.failure(BATCH, 1), json.dumps(record).encode())
    forge(files, BATCH, {"unit": evil})
    Path(files.location, layout.ASIDE).mkdir()
    Path(files.location, layout.ASIDE, f"x{evil}.json").write_bytes(b"{}")
    for arguments in COMMANDS:
        result = call(files, *arguments)
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", result.stdout + result.stderr)
    assert "here?]0;owned??31m  a  E: one?]0;owned??31m" in call(files, "failures").stdout


@pytest.mark.parametrize(
    "unit_id", ["squeeze/a", BATCH, LABELS, "evaluate/distilled/student/s000", "measure/distilled"]
)
@pytest.mark.parametrize(
    "changes",
    [
        {"stats": {"weights": [1], "accuracy": "much", "cosine_mean": [], "arch": 5}},
        {"stats": {"weights": {"a": "0"}}},
        {"stats": {}, "files": []},
        {"seconds": 1e308},
        {"files": [{"name": "images/none", "num_bytes": 2**62, "sha256": "0", "num_rows": 2**62}]},
    ],
)
def test_a_commit_of_other_figures_is_named(files: StoreFiles, unit_id: str, changes: dict[str, Any]) -> None:
    """Catches KeyError and TypeError in a table, for a commit that says less, or something else."""
    forge(files, unit_id, changes)
    for arguments in (*COMMANDS[:3], ["status", "--json"], ["compare", "--baseline", "random-real"]):
        result = call(files, *arguments)
        if result.exit_code == 1:
            assert "error: " in result.stderr
