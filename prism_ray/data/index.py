"""The index of an image folder: files, classes, hashes, and what was left out. The store keeps it."""

import hashlib
import io
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from prism_ray.data.base import Split
from prism_ray.parquet import read_table

_COLUMNS = [("path", pa.string()), ("label", pa.int64()), ("num_bytes", pa.int64()), ("split", pa.string())]
# Missing in the index of an earlier version.
_LATER_COLUMNS = [("modified_ns", pa.int64()), ("head_sha256", pa.string()), ("sha256", pa.string())]
_SLACK_BYTES = 2**20
_MOST_PACKED = 256  # largest ratio of unpacked to packed bytes; a real index has a small one
_FORMAT = "2"
_SPLITS: tuple[Split, Split] = ("train", "test")


@dataclass(frozen=True)
class LeftOut:
    """The files of a class that were left out for one reason."""

    label: str  # the class folder; empty: beside the class folders
    reason: str
    number: int
    examples: tuple[str, ...]  # paths of the first ones
    is_image: bool  # False: no image, for example a text file


@dataclass(frozen=True)
class FolderIndex:
    """The list of image files and their classes; paths are relative to data.path or data.test_path."""

    class_names: tuple[str, ...]
    paths: dict[Split, tuple[str, ...]]
    labels: dict[Split, npt.NDArray[np.int64]]
    sizes: dict[Split, npt.NDArray[np.int64]]  # of the files, in bytes
    modified: dict[Split, npt.NDArray[np.int64]] = field(default_factory=dict)  # ns since 1970
    heads: dict[Split, tuple[str, ...]] = field(default_factory=dict)  # hash of the first 16 KiB
    hashes: dict[Split, tuple[str, ...]] = field(default_factory=dict)  # SHA-256 of the file, or empty
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()  # for the user: duplicates, folders that were passed over

    def identity(self) -> str:
        """Return a hash of names, labels, sizes and beginnings; one of a large set's pixels would take hours.

        The index of an earlier version has no beginnings, and its identity does without.
        """
        digest = hashlib.sha256()
        for split in _SPLITS:
            heads = self.heads.get(split, ())
            files = zip(self.paths[split], self.labels[split], self.sizes[split], strict=True)
            for number, (path, label, size) in enumerate(files):
                head = f"\0{heads[number]}" if heads else ""
                digest.update(f"{split}\0{label}\0{size}\0{path}{head}\n".encode())
        return digest.hexdigest()

    def without_hashes(self) -> "FolderIndex":
        """Return the index as an earlier version made it."""
        return FolderIndex(self.class_names, self.paths, self.labels, self.sizes)

    def describe(self, max_lines: int = 20) -> list[str]:
        """Return lines for the user: what was taken, what was left out and why, and the notes."""
        num_train, num_test = (len(self.paths[split]) for split in _SPLITS)
        lines = [f"{num_train:,} training and {num_test:,} test images of {len(self.class_names):,} classes"]
        for each in self.left_out:
            if each.is_image:
                where = f"class {each.label}" if each.label else "the top folder"
                images = "1 image" if each.number == 1 else f"{each.number:,} images"
                lines.append(f"left out: {images} of {where} ({each.reason}), for example {each.examples[0]}")
        others = [each for each in self.left_out if not each.is_image]
        if others:
            number = sum(each.number for each in others)
            files = "1 file is" if number == 1 else f"{number:,} files are"
            lines.append(f"{files} no image, for example {others[0].examples[0]}")
        lines += self.notes
        if len(lines) > max_lines:
            lines[max_lines:] = [f"and {len(lines) - max_lines:,} more remarks, in the store's data index"]
        return lines

    def to_parquet(self) -> bytes:
        """Return the index as the bytes of a Parquet file."""
        columns: dict[str, Any] = {
            "path": [*self.paths["train"], *self.paths["test"]],
            "label": np.concatenate([self.labels["train"], self.labels["test"]]),
            "num_bytes": np.concatenate([self.sizes["train"], self.sizes["test"]]),
            "split": [split for split in _SPLITS for _ in self.paths[split]],
        }
        metadata = {"class_names": json.dumps(self.class_names)}
        schema = pa.schema(_COLUMNS)
        if self.heads:
            columns["modified_ns"] = np.concatenate([self.modified["train"], self.modified["test"]])
            columns["head_sha256"] = [*self.heads["train"], *self.heads["test"]]
            columns["sha256"] = [*self.hashes["train"], *self.hashes["test"]]
            left_out = _LEFT_OUT.dump_json(self.left_out).decode()
            metadata |= {"format": _FORMAT, "left_out": left_out, "notes": json.dumps(self.notes)}
            schema = pa.schema(_COLUMNS + _LATER_COLUMNS)
        sink = io.BytesIO()
        table = pa.table(columns, schema=schema.with_metadata(metadata))
        pq.write_table(table, sink, compression="zstd")
        return sink.getvalue()

    @classmethod
    def from_parquet(cls, data: bytes) -> "FolderIndex":
        """Read the bytes that `to_parquet` returned.

        Raises ValueError if `data` is not an index, or names a file outside of the folders.
        """
        limit = _SLACK_BYTES + _MOST_PACKED * len(data)
        table = read_table(io.BytesIO(data), pa.schema(_COLUMNS), limit)
        metadata = table.schema.metadata or {}
        if b"format" in metadata:
            table = read_table(io.BytesIO(data), pa.schema(_COLUMNS + _LATER_COLUMNS), limit)
        names = _class_names(metadata.get(b"class_names", b""))
        if any(column.null_count for column in table.columns):
            raise ValueError("it has empty cells")
        split = np.asarray(table["split"].to_pylist())
        labels = table["label"].to_numpy().astype(np.int64)
        sizes = table["num_bytes"].to_numpy().astype(np.int64)
        paths = np.asarray(table["path"].to_pylist(), dtype=object)
        if not set(split) <= {"train", "test"} or not set(np.unique(labels)) <= set(range(len(names))):
            raise ValueError("it has an unknown split or class")
        for path in paths:
            if path.startswith("/") or "\0" in path or ".." in path.split("/"):
                raise ValueError(f"it names {path!r}, which is outside of the folder")
        index = cls(
            class_names=names,
            paths={key: tuple(paths[split == key]) for key in _SPLITS},
            labels={key: labels[split == key] for key in _SPLITS},
            sizes={key: sizes[split == key] for key in _SPLITS},
        )
        return index._with_hashes(table, split, metadata) if b"format" in metadata else index

    def _with_hashes(
        self, table: pa.Table, split: npt.NDArray[np.str_], metadata: dict[bytes, bytes]
    ) -> "FolderIndex":
        modified = table["modified_ns"].to_numpy().astype(np.int64)
        heads = np.asarray(table["head_sha256"].to_pylist(), dtype=object)
        hashes = np.asarray(table["sha256"].to_pylist(), dtype=object)
        try:
            left_out = _LEFT_OUT.validate_json(metadata.get(b"left_out", b"[]"))
            notes = _NOTES.validate_json(metadata.get(b"notes", b"[]"))
        except ValidationError:
            raise ValueError("its list of files that were left out is damaged") from None
        return FolderIndex(
            class_names=self.class_names,
            paths=self.paths,
            labels=self.labels,
            sizes=self.sizes,
            modified={key: modified[split == key] for key in _SPLITS},
            heads={key: tuple(heads[split == key]) for key in _SPLITS},
            hashes={key: tuple(hashes[split == key]) for key in _SPLITS},
            left_out=left_out,
            notes=notes,
        )


_LEFT_OUT = TypeAdapter(tuple[LeftOut, ...])
_NOTES = TypeAdapter(tuple[str, ...])


def _class_names(text: bytes) -> tuple[str, ...]:
    try:
        names = json.loads(text)
    except RecursionError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("it has no class names")
    return tuple(names)
