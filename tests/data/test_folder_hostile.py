"""Image folders and their listings from elsewhere: nothing runs, nothing is read outside, nothing grows."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prism_ray.data import FolderIndex, index_folder, open_data
from prism_ray.data.formats import image_formats
from prism_ray.errors import DataError, StoreError
from prism_ray.run import read_index
from prism_ray.store import StoreFiles, layout
from tests.data.folders import config_of

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n%%EOF\n"


def test_no_image_runs_a_program(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches PostScript under the name of a JPEG, which Pillow hands to Ghostscript to be run."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("gs", "gswin32c", "gswin64c"):
        (programs / name).write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    index = index_folder(config_of(root))
    for name in ("cat/9.jpg", "cat/9.eps"):
        (root / name).write_bytes(EPS)
    with pytest.raises(DataError, match=r"1 image file cannot be read.*\n.*cat/9\.jpg"):
        index_folder(config_of(root))
    name = index.paths["train"][0]
    (root / name).write_bytes(EPS.ljust(index.sizes["train"][0]))
    with pytest.raises(DataError, match=r"1 image file cannot be read"):
        open_data(config_of(root), index).read("train", np.array([0]))
    assert not (tmp_path / "ran").exists()
    assert {"PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"} <= set(image_formats())


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_an_image_that_claims_gigabytes_is_named(root: Path) -> None:
    """Catches a decompression bomb among the training images."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    (root / "dog" / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IEND", b""))
    with pytest.raises(DataError, match=r"bomb\.png \(more than 180 megapixels; data\.max_megapixels"):
        index_folder(config_of(root))


def test_pipes_and_devices_among_the_images_are_named(root: Path) -> None:
    """Catches a run that waits for ever on a pipe, or reads a device without end."""
    os.mkfifo(root / "dog" / "pipe.png")
    os.symlink("/dev/zero", root / "owl" / "zero.png")
    with pytest.raises(DataError) as caught:
        index_folder(config_of(root))
    assert "pipe.png (not a regular file)" in str(caught.value)
    assert "zero.png (not a regular file)" in str(caught.value)


def changed(data: bytes, metadata: dict[str, str] | None = None, **columns: Any) -> bytes:
    """Return an index with other columns or metadata."""
    table = pq.read_table(io.BytesIO(data))
    for name, values in columns.items():
        place = table.column_names.index(name)
        table = table.set_column(place, name, pa.array(values))
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata or table.schema.metadata), sink, compression="zstd")
    return sink.getvalue()


def paths_with(path: str) -> Callable[[bytes], bytes]:
    return lambda data: changed(data, path=[path] + ["cat/0.png"] * 14)


HARMS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "up": (paths_with("../../home/me/photo.jpg"), "it names '../../home/me/photo.jpg', which is outside"),
    "up from inside": (paths_with("cat/../../x.jpg"), "which is outside of the folder"),
    "absolute": (paths_with("/home/me/photo.jpg"), "which is outside of the folder"),
    "nothing": (lambda data: changed(data, path=[None] * 15), "column path is null"),
    "one nothing": (lambda data: changed(data, path=[None] + ["a"] * 14), "it has empty cells"),
    "a class that is none": (lambda data: changed(data, label=[3] * 15), "an unknown split or class"),
    "a negative class": (lambda data: changed(data, label=[-1] * 15), "an unknown split or class"),
    "a split that is none": (lambda data: changed(data, split=["val"] * 15), "an unknown split or class"),
    "no classes": (lambda data: changed(data, {"a": "b"}), "Expecting value"),
    "deep classes": (lambda data: changed(data, {"class_names": "[" * 10**5}), "no class names"),
    "classes of numbers": (lambda data: changed(data, {"class_names": "[1, 2, 3]"}), "no class names"),
    "a bomb": (lambda data: changed(data, path=["x" * 10**7] * 15), "it unpacks to more than"),
    "truncated": (lambda data: data[:-9], "not a Parquet file"),
    "empty": (lambda data: b"", "not a Parquet file"),
}


@pytest.mark.parametrize(("harm", "problem"), HARMS.values(), ids=HARMS.keys())
def test_an_index_that_is_none_is_named(
    root: Path, tmp_path: Path, harm: Callable[[bytes], bytes], problem: str
) -> None:
    """Catches a listing that leads to a home folder, a KeyError, and classes from the end of the list."""
    files = StoreFiles(str(tmp_path / "run"))
    data = index_folder(config_of(root)).to_parquet()
    files.create(layout.DATA_INDEX, harm(data))
    with pytest.raises(StoreError) as caught:
        read_index(files)
    message = str(caught.value)
    assert message.startswith(f"{files.location}/data/index.parquet is damaged: ")
    assert problem in message
    assert "run `prism-ray verify --repair " in message


def test_a_large_index_is_read(tmp_path: Path) -> None:
    """Catches a bound that a real listing does not keep: names that are much alike pack well."""
    count = 200_000
    index = FolderIndex(
        class_names=tuple(f"n{number:08d}" for number in range(1000)),
        paths={
            "train": tuple(f"n{k % 1000:08d}/n{k % 1000:08d}_{k:07d}.JPEG" for k in range(count)),
            "test": (),
        },
        labels={"train": np.arange(count) % 1000, "test": np.zeros(0, np.int64)},
        sizes={"train": np.full(count, 100_000), "test": np.zeros(0, np.int64)},
    )
    files = StoreFiles(str(tmp_path / "run"))
    files.create(layout.DATA_INDEX, index.to_parquet())
    assert read_index(files).paths == index.paths
