"""Image parts: lossless PNG in the Hugging Face image layout, one Parquet file per batch."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from prism_ray.errors import StoreError
from prism_ray.store.commits import Commit, read_part
from prism_ray.store.files import StoreFiles
from prism_ray.units import RecoverUnit, Slot

_SCHEMA = pa.schema(
    [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("label", pa.int64()),
        ("ipc_index", pa.int32()),
        ("batch", pa.string()),
        ("teachers", pa.list_(pa.string())),
        ("num_iterations", pa.int32()),
        ("seed", pa.int64()),
        ("loss_ce", pa.float32()),
        ("loss_bn", pa.float32()),
    ]
)
_HF_DTYPES = {
    "ipc_index": "int32",
    "batch": "string",
    "num_iterations": "int32",
    "seed": "int64",
    "loss_ce": "float32",
    "loss_bn": "float32",
}


@dataclass(frozen=True)
class StoredImages:
    """Images read back from parts, in the order of the slots."""

    slots: tuple[Slot, ...]
    images: npt.NDArray[np.uint8]  # B, channels, H, W


def encode_images(
    unit: RecoverUnit,
    images: npt.NDArray[np.uint8],
    class_names: Sequence[str],
    loss_ce: float | None = None,
    loss_bn: float | None = None,
) -> bytes:
    """Return the Parquet file of a batch.

    `images` is uint8 (B, channels, H, W) in the order of the unit's slots, with 1 channel (grey) or 3
    (RGB). The losses are the batch's at its last iteration, null for a selection. Column `teachers` has all
    that supervised the batch; every draw in turn stands in the file's metadata, key prism_ray.draws.
    """
    num_images = len(unit.slots)
    rows = {
        "image": [
            {"bytes": encode_png(image), "path": f"{slot.label:05d}/{slot.ipc_index:05d}.png"}
            for slot, image in zip(unit.slots, images, strict=True)
        ],
        "label": [slot.label for slot in unit.slots],
        "ipc_index": [slot.ipc_index for slot in unit.slots],
        "batch": [unit.key] * num_images,
        "teachers": [list(unit.teachers)] * num_images,
        "num_iterations": list(unit.iterations),
        "seed": [unit.seed] * num_images,
        "loss_ce": [loss_ce] * num_images,
        "loss_bn": [loss_bn] * num_images,
    }
    metadata = {
        "huggingface": json.dumps({"info": {"features": _features(class_names)}}),
        "prism_ray.draws": json.dumps(_pack_draws(unit)),
    }
    table = pa.table(rows, schema=_SCHEMA.with_metadata(metadata))
    sink = io.BytesIO()
    pq.write_table(
        table,
        sink,
        row_group_size=1000,
        compression={"image.bytes": "none", "image.path": "zstd"}
        | {name: "zstd" for name in _SCHEMA.names if name not in ("image", "teachers")}
        | {"teachers.list.element": "zstd"},
        use_dictionary=["batch", "label"],
    )
    return sink.getvalue()


def encode_png(image: npt.NDArray[np.uint8]) -> bytes:
    """Return a (channels, H, W) image as PNG: grey for 1 channel, RGB for 3."""
    pixels = image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)
    sink = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(sink, format="PNG")
    return sink.getvalue()


def decode_png(data: bytes) -> npt.NDArray[np.uint8]:
    """Return a PNG's pixels as (channels, H, W)."""
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def read_images(files: StoreFiles, commits: Sequence[Commit]) -> StoredImages:
    """Read the images of some units' commits, part after part.

    Raises StoreError if a part cannot be read.
    """
    slots: list[Slot] = []
    images: list[npt.NDArray[np.uint8]] = []
    for commit in commits:
        for part in commit.files:
            try:
                table = pq.read_table(
                    io.BytesIO(read_part(files, part)), columns=["image", "label", "ipc_index"]
                )
                rows: list[dict[str, Any]] = table.to_pylist()
                images += [decode_png(row["image"]["bytes"]) for row in rows]
            except (StoreError, pa.ArrowException, OSError, SyntaxError) as error:
                raise StoreError(
                    f"{files.location}/{part.name} is damaged: {error}; delete "
                    f"commits/{commit.unit}.json, and its batch is made again"
                ) from error
            slots += [Slot(row["label"], row["ipc_index"]) for row in rows]
    return StoredImages(tuple(slots), np.stack(images))


def _pack_draws(unit: RecoverUnit) -> dict[str, Any]:
    """Return the draws of S, one after each redraw, as places among the teachers."""
    places = {name: place for place, name in enumerate(unit.teachers)}
    return {
        "teachers": unit.teachers,
        "draws": [[places[name] for name in draw] for draw in unit.draws],
    }


def _features(class_names: Sequence[str]) -> dict[str, Any]:
    """The `datasets` features of the columns."""
    features: dict[str, Any] = {
        "image": {"_type": "Image"},
        "label": {"names": list(class_names), "_type": "ClassLabel"},
        "teachers": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"},
    }
    features |= {name: {"dtype": kind, "_type": "Value"} for name, kind in _HF_DTYPES.items()}
    return {name: features[name] for name in _SCHEMA.names}
