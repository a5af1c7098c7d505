"""Image parts: lossless, deterministic, and readable by everyone."""

import io
import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from prism_ray.errors import StoreError
from prism_ray.parts.images import BatchLosses, ImageForm, encode_images, read_images
from prism_ray.stages.formation import Slot
from prism_ray.stages.recover import RecoverUnit
from prism_ray.store import Commit, StoreFiles, write_part

CLASSES = ("cat", "dög", "owl")
UNIT = RecoverUnit(
    image_set="distilled",
    key="i00002-c00000",
    slots=(Slot(0, 2), Slot(1, 2), Slot(2, 2), Slot(0, 3)),
    iterations=(7, 7, 7, 5),
    draws=(("resnet",), ("resnet", "densenet"), ("resnet",)),
    seed=2**63 - 1,
)


def noise(count: int = 4, channels: int = 3, size: int = 8, seed: int = 0) -> npt.NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, channels, size, size), dtype=np.uint8)


def form_of(channels: int = 3) -> ImageForm:
    return ImageForm(channels, size=8, max_images=4, num_classes=7, ipc=4)


def commit_part(files: StoreFiles, data: bytes, name: str = "part") -> Commit:
    part = write_part(files, lambda attempt: f"images/{name}-{attempt}.parquet", data)
    return Commit(f"recover/{name}", "abc", (part,), {}, 1.0, "here", "now")


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_read_back_from_the_store(files: StoreFiles, channels: int) -> None:
    """Slots and pixels that part company, or parts in another order than asked."""
    first, second = noise(4, channels, seed=1), noise(2, channels, seed=2)
    other = replace(UNIT, slots=(Slot(5, 0), Slot(6, 0)), iterations=(7, 7))
    commits = [
        commit_part(files, encode_images(UNIT, first, CLASSES, BatchLosses(0.5, 0.25, {})), "z"),
        commit_part(files, encode_images(other, second, [str(k) for k in range(7)]), "a"),
    ]
    stored = read_images(files, commits, form_of(channels))
    assert stored.slots == UNIT.slots + other.slots
    assert stored.images.dtype == np.uint8
    assert np.array_equal(stored.images, np.concatenate([first, second]))


@pytest.mark.parametrize("num_rows", [4, None])
def test_a_set_is_in_memory_once(files: StoreFiles, num_rows: int | None) -> None:
    """Catches all batches beside their concatenation: 15 GB, not 7.5, for 50,000 images of 224 pixels."""
    commits = []
    for number in range(24):
        unit = replace(UNIT, slots=tuple(Slot(number, k) for k in range(4)), iterations=(7,) * 4)
        commit = commit_part(files, encode_images(unit, noise(size=48, seed=number), CLASSES), str(number))
        part = replace(commit.files[0], num_rows=num_rows)  # earlier versions did not write the number
        commits.append(replace(commit, files=(part,)))
    form = ImageForm(3, size=48, max_images=4, num_classes=24, ipc=4)
    read_images(files, commits[:1], form)  # imports
    tracemalloc.start()
    stored = read_images(files, commits, form)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert stored.images.shape == (96, 3, 48, 48)
    assert all(np.array_equal(stored.images[4 * k : 4 * k + 4], noise(size=48, seed=k)) for k in range(24))
    assert peak < 1.5 * stored.images.nbytes


@settings(deadline=None, max_examples=30)
@given(
    images=st.tuples(st.integers(1, 5), st.sampled_from([1, 3]), st.integers(1, 9)).flatmap(
        lambda shape: hnp.arrays(np.uint8, (*shape, shape[2]))
    )
)
def test_the_same_images_give_the_same_bytes(images: npt.NDArray[np.uint8]) -> None:
    """A time or a random name in the part: a retry does not recognise its own work."""
    count = len(images)
    unit = replace(UNIT, slots=tuple(Slot(k % 3, k) for k in range(count)), iterations=(7,) * count)
    data = encode_images(unit, images, CLASSES, BatchLosses(0.1, 0.2, {}))
    assert encode_images(unit, images.copy(), CLASSES, BatchLosses(0.1, 0.2, {})) == data


def test_a_part_is_plain_parquet_with_its_whole_history() -> None:
    """Columns of another name or type than the documentation says; a seed beyond 2**53 rounded."""
    table = pq.read_table(io.BytesIO(encode_images(UNIT, noise(), CLASSES, BatchLosses(0.5, 0.25, {}))))
    rows = table.to_pylist()
    assert [(row["label"], row["ipc_index"]) for row in rows] == [(0, 2), (1, 2), (2, 2), (0, 3)]
    assert rows[3]["image"]["path"] == "00000/00003.png"
    assert len({row["image"]["path"] for row in rows}) == 4
    assert {name: rows[0][name] for name in table.column_names if name != "image"} == {
        "label": 0,
        "ipc_index": 2,
        "batch": "i00002-c00000",
        "teachers": ["resnet", "densenet"],
        "num_iterations": 7,
        "seed": 2**63 - 1,
        "loss_ce": 0.5,
        "loss_bn": 0.25,
    }
    assert table.schema.field("label").type == pa.int64()
    assert [row["num_iterations"] for row in rows] == [7, 7, 7, 5]


def test_every_draw_is_recorded_with_the_images() -> None:
    """Images of which nobody can say later which teachers supervised which iterations."""
    schema = pq.read_schema(io.BytesIO(encode_images(UNIT, noise(), CLASSES)))
    packed = json.loads(schema.metadata[b"prism_ray.draws"])
    draws = tuple(tuple(packed["teachers"][place] for place in draw) for draw in packed["draws"])
    assert draws == UNIT.draws


def test_a_control_has_no_teachers_and_no_losses() -> None:
    """NaN or 0 in place of 'there was none'."""
    control = replace(UNIT, image_set="random-real", draws=(), iterations=(0,) * 4)
    rows = pq.read_table(io.BytesIO(encode_images(control, noise(), CLASSES))).to_pylist()
    assert {(row["loss_ce"], row["loss_bn"]) for row in rows} == {(None, None)}
    assert all(row["teachers"] == [] for row in rows)


@pytest.mark.parametrize("count", [3, 5])
def test_another_number_of_images_than_slots_is_refused(count: int) -> None:
    """An image too few or too many that shifts all labels after it."""
    with pytest.raises(ValueError, match=r"zip\(\)"):
        encode_images(UNIT, noise(count), CLASSES)


def test_the_columns_are_described_for_hugging_face() -> None:
    """Features that leave out a column, so that `datasets` refuses the file."""
    schema = pq.read_schema(io.BytesIO(encode_images(UNIT, noise(), CLASSES)))
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == schema.names
    assert features["label"] == {"names": list(CLASSES), "_type": "ClassLabel"}


@pytest.mark.parametrize("channels", [1, 3])
def test_the_datasets_library_shows_images_and_class_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: int
) -> None:
    """Bytes and numbers in place of Image and ClassLabel for everyone who loads the set."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    datasets = pytest.importorskip("datasets")
    images = noise(4, channels)
    control = replace(UNIT, slots=(Slot(2, 0),), iterations=(0,), draws=())
    (tmp_path / "part-a.parquet").write_bytes(
        encode_images(UNIT, images, CLASSES, BatchLosses(0.5, 0.25, {}))
    )
    (tmp_path / "part-b.parquet").write_bytes(encode_images(control, noise(1, channels, seed=9), CLASSES))
    loaded = datasets.load_dataset(
        "parquet",
        data_files=str(tmp_path / "part-*.parquet"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert isinstance(loaded.features["image"], datasets.Image)
    assert isinstance(loaded.features["label"], datasets.ClassLabel)
    assert loaded.features["label"].names == list(CLASSES)
    assert loaded["label"] == [0, 1, 2, 0, 2]
    assert loaded[0]["teachers"] == ["resnet", "densenet"]
    assert loaded[4]["teachers"] == []
    assert loaded[0]["seed"] == 2**63 - 1
    for row, image in zip(loaded, images, strict=False):
        pixels = np.asarray(row["image"])
        assert np.array_equal(pixels, image[0] if channels == 1 else image.transpose(1, 2, 0))


# Damage


def cut(data: bytes) -> bytes:
    return data[:-10]


def cut_in_half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def spoil_a_png(data: bytes) -> bytes:
    """Return the part with the second image's PNG cut short."""
    table = pq.read_table(io.BytesIO(data))
    rows = table.to_pylist()
    rows[1]["image"]["bytes"] = rows[1]["image"]["bytes"][:60]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), sink)
    return sink.getvalue()


def forget_a_column(data: bytes) -> bytes:
    table = pq.read_table(io.BytesIO(data)).drop_columns(["label"])
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    "harm", [cut, cut_in_half, spoil_a_png, forget_a_column, lambda data: b"", lambda data: b"x"]
)
def test_a_damaged_part_is_named_with_the_remedy(files: StoreFiles, harm: Callable[[bytes], bytes]) -> None:
    """ArrowInvalid, a segmentation fault or grey images for a part that was cut short."""
    whole = commit_part(files, encode_images(UNIT, noise(), CLASSES), "whole")
    damaged = commit_part(files, harm(encode_images(UNIT, noise(), CLASSES)), "damaged")
    with pytest.raises(StoreError) as caught:
        read_images(files, [whole, damaged], form_of())
    message = str(caught.value)
    assert message.startswith(f"{files.location}/images/damaged-0.parquet is damaged: ")
    assert f"run `prism-ray verify --repair {files.location}`" in message


def test_a_missing_part_is_a_store_error(files: StoreFiles) -> None:
    """FileNotFoundError on an actor for a part that somebody deleted."""
    commit = commit_part(files, encode_images(UNIT, noise(), CLASSES))
    files.delete(commit.files[0].name)
    with pytest.raises(StoreError, match="part-0"):
        read_images(files, [commit], form_of())
