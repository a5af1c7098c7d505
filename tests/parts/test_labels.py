"""Soft labels: bit-exact, and read epoch by epoch from however many parts there are."""

import io
import weakref
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import prism_ray.parts.labels
from prism_ray.errors import StoreError
from prism_ray.parts.labels import EpochLabels, LabelForm, LabelReader, encode_labels
from prism_ray.parts.views import MixUpViews, Views
from prism_ray.store import Commit, StoreFiles, write_part

# float16 values that a detour through another type or a text would change: a subnormal, -0, the largest,
# infinities and a NaN.
ODD_BITS = np.asarray([0x0001, 0x8000, 0x7BFF, 0x7C00, 0xFC00, 0x7E00], np.uint16)
FLAGS = ("flip", "swap_columns", "swap_rows")


def epoch_of(epoch: int, count: int, num_classes: int, first_label: int = 0) -> EpochLabels:
    """Return labels of `count` images that depend on the epoch and on the first label."""
    rng = np.random.default_rng([epoch, count, num_classes, first_label])
    columns: dict[str, npt.NDArray[np.int64] | npt.NDArray[np.bool_]] = {
        field.name: rng.integers(0, 2**15, count) for field in fields(Views)
    }
    columns["label"] = first_label + np.arange(count)
    columns["partner_label"] = rng.integers(0, 2**31, count)
    for name in FLAGS:
        columns[name] = rng.random(count) < 0.5
    columns["augment_seed"] = rng.integers(0, 2**63, count, dtype=np.int64)
    bits = rng.integers(0, 2**16, (count, num_classes)).astype(np.uint16)
    bits.reshape(-1)[: len(ODD_BITS)] = ODD_BITS[: bits.size]
    return EpochLabels(epoch, Views(**columns), bits.view(np.float16))  # type: ignore[arg-type]


def commit_epochs(files: StoreFiles, name: str, epochs: Sequence[EpochLabels]) -> Commit:
    return commit_bytes(files, name, encode_labels(epochs))


def commit_bytes(files: StoreFiles, name: str, data: bytes) -> Commit:
    part = write_part(files, lambda attempt: f"labels/{name}-{attempt}.parquet", data)
    return Commit(f"relabel/{name}", "abc", (part,), {"first_epoch": 0}, 1.0, "here", "now")


def reader_of(files: StoreFiles, commits: Sequence[Commit], num_classes: int) -> LabelReader:
    return LabelReader(files, commits, LabelForm(num_images=5000, num_classes=num_classes, size=2**16))


def assert_equal(found: EpochLabels, expected: EpochLabels) -> None:
    assert found.epoch == expected.epoch
    for field in fields(Views):
        one, other = getattr(found.views, field.name), getattr(expected.views, field.name)
        assert one.dtype == (np.bool_ if field.name in FLAGS else np.int64)
        assert np.array_equal(one, other), field.name
    assert found.logits.dtype == np.float16
    assert found.logits.shape == expected.logits.shape
    assert np.array_equal(found.logits.view(np.uint16), expected.logits.view(np.uint16))


def joined(parts: Sequence[EpochLabels]) -> EpochLabels:
    views = {
        field.name: np.concatenate([getattr(part.views, field.name) for part in parts])
        for field in fields(Views)
    }
    return EpochLabels(parts[0].epoch, Views(**views), np.concatenate([part.logits for part in parts]))


def test_only_the_files_of_the_present_epochs_are_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches 150 open files, each with 50 MB of S3's cache, for 50 groups in three ranges of epochs."""
    files = StoreFiles(str(tmp_path))
    epochs = [[epoch_of(number, 3, 4, 3 * group) for number in range(6)] for group in range(2)]
    commits = [
        commit_epochs(files, f"g{group}-e{first}", epochs[group][first : first + 2])
        for group in range(2)
        for first in (0, 2, 4)
    ]
    opened: weakref.WeakSet[Any] = weakref.WeakSet()
    whole = StoreFiles.open

    def followed(files: StoreFiles, name: str) -> Any:
        file = whole(files, name)
        opened.add(file)
        return file

    monkeypatch.setattr(StoreFiles, "open", followed)
    reader = reader_of(files, commits, 4)
    for number in (0, 1, 2, 3, 4, 5, 1):
        assert_equal(reader.epoch(number), joined([epochs[group][number] for group in range(2)]))
        assert len(opened) <= 2, number


@settings(deadline=None, max_examples=40)
@given(
    count=st.integers(1, 40),
    num_classes=st.integers(1, 20),
    first_epoch=st.integers(0, 1000),
    num_epochs=st.integers(1, 6),
    rows_per_row_group=st.integers(1, 100),
    data=st.data(),
)
def test_labels_are_read_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory,
    count: int,
    num_classes: int,
    first_epoch: int,
    num_epochs: int,
    rows_per_row_group: int,
    data: st.DataObject,
) -> None:
    """An epoch mixed with its neighbours, logits rounded, or views beside other images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prism_ray.parts.labels, "_ROWS_PER_ROW_GROUP", rows_per_row_group)
        epochs = [epoch_of(first_epoch + k, count, num_classes) for k in range(num_epochs)]
        files = StoreFiles(str(tmp_path_factory.mktemp("labels")))
        commit = commit_epochs(files, "part", epochs)
    reader = reader_of(files, [commit], num_classes)
    for k in data.draw(st.lists(st.integers(0, num_epochs - 1), max_size=8)):
        assert_equal(reader.epoch(first_epoch + k), epochs[k])


def test_float16_is_bit_exact(files: StoreFiles) -> None:
    """-0, subnormals, infinities and NaN changed by a detour through another type."""
    labels = epoch_of(0, 1, len(ODD_BITS))
    reader = reader_of(files, [commit_epochs(files, "part", [labels])], len(ODD_BITS))
    assert np.array_equal(reader.epoch(0).logits.view(np.uint16)[0], ODD_BITS)


def test_seeds_keep_all_their_bits(files: StoreFiles) -> None:
    """A seed that goes through int32 or float64: the student sees another augmentation than the teachers."""
    labels = epoch_of(0, 3, 2)
    labels.views.augment_seed[:] = [0, 2**53 + 1, 2**63 - 1]
    reader = reader_of(files, [commit_epochs(files, "part", [labels])], 2)
    assert reader.epoch(0).views.augment_seed.tolist() == [0, 2**53 + 1, 2**63 - 1]


def test_the_memory_order_of_the_logits_does_not_matter(files: StoreFiles) -> None:
    """A transposed array whose raw memory is written: every image has another's logits."""
    labels = epoch_of(0, 5, 7)
    turned = EpochLabels(0, labels.views, np.asfortranarray(labels.logits))
    assert encode_labels([turned]) == encode_labels([labels])
    assert_equal(reader_of(files, [commit_epochs(files, "part", [turned])], 7).epoch(0), labels)


def test_the_same_labels_give_the_same_bytes() -> None:
    """A time or a random name in the part: a retry does not recognise its own work."""
    assert encode_labels([epoch_of(k, 9, 4) for k in range(3)]) == encode_labels(
        [epoch_of(k, 9, 4) for k in range(3)]
    )


@pytest.mark.parametrize(("count", "num_epochs", "expected"), [(1000, 10, 3), (5000, 3, 3), (10, 100, 1)])
def test_row_groups_hold_whole_epochs_of_a_few_thousand_rows(
    count: int, num_epochs: int, expected: int
) -> None:
    """A part that must be read whole for one epoch, or one that pays for a header per handful of rows."""
    data = encode_labels([epoch_of(k, count, 2) for k in range(num_epochs)])
    parquet = pq.ParquetFile(io.BytesIO(data))
    assert parquet.num_row_groups == expected
    for number in range(expected):
        rows = np.bincount(parquet.read_row_group(number, ["epoch"])["epoch"].to_numpy())
        assert set(rows[rows > 0]) == {count}


def test_parts_are_plain_parquet() -> None:
    """Columns that only this package can read."""
    table = pq.read_table(io.BytesIO(encode_labels([epoch_of(3, 4, 5)])))
    assert table.column_names == ["epoch", *(field.name for field in fields(Views)), "logits"]
    assert table.schema.field("logits").type == pa.list_(pa.float16(), 5)
    assert table["epoch"].to_pylist() == [3] * 4
    assert {table.schema.field(name).type for name in FLAGS} == {pa.bool_()}
    assert table.schema.field("augment_seed").type == pa.int64()


def test_shares_of_mixup_come_back_as_they_were(files: StoreFiles) -> None:
    """Catches a student that blends by another share than the teachers: rounded, or of another view."""
    plain = [epoch_of(epoch, 4, 3) for epoch in range(2)]
    shares = np.array([[0.1, 1.0, 0.0, 0.7], [0.2, 0.3, 1.0, 0.5]], np.float16)
    epochs = [
        replace(labels, views=MixUpViews(**vars(labels.views), own_share=share))
        for labels, share in zip(plain, shares, strict=True)
    ]
    commit = commit_epochs(files, "g0", epochs)
    table = pq.read_table(io.BytesIO(encode_labels(epochs)))
    assert [*table.column_names[:-2], "logits"] == pq.read_table(
        io.BytesIO(encode_labels(plain))
    ).column_names
    assert table.schema.field("own_share").type == pa.float16()
    reader = LabelReader(files, [commit], LabelForm(5000, 3, 2**16, has_shares=True))
    for expected, share in zip(epochs, shares, strict=True):
        found = reader.epoch(expected.epoch)
        assert isinstance(found.views, MixUpViews)
        assert found.views.own_share.dtype == np.float16
        assert found.views.own_share.tolist() == share.tolist()
        assert_equal(found, expected)


@pytest.mark.parametrize("share", [-0.5, 1.5, np.nan, np.inf])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    """Catches a view brighter than its images, of a file that was damaged or made by hand."""
    labels = epoch_of(0, 2, 3, first_label=1)
    views = MixUpViews(**vars(labels.views), own_share=np.array([1.0, share], np.float16))
    form = LabelForm(2, 3, 2**40, has_shares=True)
    with pytest.raises(ValueError, match="share of its own image that is not between 0 and 1"):
        form.validate(replace(labels, views=replace(views, crop_height=views.label, crop_width=views.label)))


def test_groups_and_ranges_of_epochs_are_joined(files: StoreFiles) -> None:
    """Epochs of the second range counted from zero, or a group that is left out."""
    groups = {
        "g0": [epoch_of(k, 4, 3) for k in range(5)],
        "g1": [epoch_of(k, 2, 3, first_label=4) for k in range(5)],
        "g2": [epoch_of(k, 1, 3, first_label=6) for k in range(5)],
    }
    commits = [
        commit_epochs(files, f"{name}-{first}", epochs[first:last])
        for first, last in ((0, 2), (2, 4), (4, 5))
        for name, epochs in groups.items()
    ]
    reader = reader_of(files, commits, 3)
    for k in (0, 4, 1, 2, 3, 0):
        found = reader.epoch(k)
        assert_equal(found, joined([epochs[k] for epochs in groups.values()]))
        assert len(found.views) == 7


def test_a_commit_may_name_several_parts(files: StoreFiles) -> None:
    """Only the first file of a commit is read."""
    one = commit_epochs(files, "one", [epoch_of(0, 2, 3)])
    two = commit_epochs(files, "two", [epoch_of(0, 3, 3, first_label=2)])
    both = Commit("relabel/x", "abc", one.files + two.files, {"first_epoch": 0}, 1.0, "here", "now")
    assert reader_of(files, [both], 3).epoch(0).views.label.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("epoch", [-1, 0, 4, 100])
def test_an_absent_epoch_is_a_store_error(files: StoreFiles, epoch: int) -> None:
    """A student that trains on nothing, or on another epoch's labels, when the labels end early."""
    commit = commit_epochs(files, "part", [epoch_of(k, 3, 2) for k in range(1, 4)])
    with pytest.raises(StoreError, match=f"no soft labels of epoch {epoch}"):
        reader_of(files, [commit], 2).epoch(epoch)


def test_no_commits_mean_no_labels(files: StoreFiles) -> None:
    """np.concatenate of nothing."""
    with pytest.raises(StoreError, match="no soft labels of epoch 0"):
        reader_of(files, [], 2).epoch(0)


def test_views_too_large_for_their_column_are_refused() -> None:
    """A crop position beyond 16 bits that is stored as a negative number."""
    labels = epoch_of(0, 2, 2)
    labels.views.crop_top[0] = 2**15
    with pytest.raises(pa.ArrowInvalid):
        encode_labels([labels])


@pytest.mark.parametrize("num_images", [100, 5000])
def test_a_row_group_is_no_larger_than_the_set(files: StoreFiles, num_images: int) -> None:
    """Catches labels that are said once for millions of rows, which a few kilobytes hold; and a real set
    of 5,000 images, whose row groups hold one epoch each, taken for such."""
    labels = epoch_of(0, num_images, 10)
    labels.logits[:] = 1.0
    commit = commit_epochs(files, "part", [labels, replace(labels, epoch=1)])
    form = LabelForm(num_images=num_images, num_classes=10, size=2**16)
    assert len(LabelReader(files, [commit], form).epoch(1).views) == num_images
    data = io.BytesIO(files.read(commit.files[0].name))
    table = pa.concat_tables([pq.read_table(data)] * 100)
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=len(table), compression="zstd")
    with pytest.raises(StoreError, match="it unpacks to more than"):
        LabelReader(files, [commit_bytes(files, "bomb", sink.getvalue())], form).epoch(0)


# Damage


def images_in_place_of_labels(data: bytes) -> bytes:
    """Return a sound Parquet file of something else."""
    sink = io.BytesIO()
    pq.write_table(pa.table({"label": [1, 2], "image": ["a", "b"]}), sink)
    return sink.getvalue()


def forget_the_logits(data: bytes) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pq.read_table(io.BytesIO(data)).drop_columns(["logits"]), sink)
    return sink.getvalue()


def spoil_the_middle(data: bytes) -> bytes:
    """Return the part with its footer whole and its pages overwritten."""
    return data[:4] + b"\xff" * (len(data) // 2) + data[4 + len(data) // 2 :]


HARMS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "no parquet": lambda data: b"not parquet at all",
    "cut at the end": lambda data: data[:-8],
    "cut in half": lambda data: data[: len(data) // 2],
    "another table": images_in_place_of_labels,
    "no logits": forget_the_logits,
    "spoilt pages": spoil_the_middle,
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS.keys())
def test_a_damaged_part_is_named(files: StoreFiles, harm: Callable[[bytes], bytes]) -> None:
    """ArrowInvalid, KeyError or wrong labels in the middle of a student's training."""
    data = harm(encode_labels([epoch_of(k, 50, 10) for k in range(3)]))
    commit = commit_bytes(files, "damaged", data)
    with pytest.raises(StoreError) as caught:  # noqa: PT012 - the footer or the pages may give it away
        reader = reader_of(files, [commit], 10)
        reader.epoch(0)
    assert str(caught.value).startswith(f"{files.location}/labels/damaged-0.parquet is damaged: ")


def test_a_missing_part_is_a_store_error(files: StoreFiles) -> None:
    """FileNotFoundError on an actor for a part that somebody deleted."""
    commit = commit_epochs(files, "part", [epoch_of(0, 3, 2)])
    files.delete(commit.files[0].name)
    with pytest.raises(StoreError, match="part-0"):
        reader_of(files, [commit], 2)
