"""Encodings of soft labels: what each loses, what each takes, and names that are refused."""

import io
import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from prism_ray.encodings import Decoded, LabelEncoding, find_encoding
from prism_ray.parts.labels import label_options

Halves = npt.NDArray[np.float16]

ALL = ("fp16", "int8", "int4", "top-3", "top-3-int8", "top-3-int4")
FINITE = npst.arrays(
    np.float16,
    st.tuples(st.integers(1, 7), st.integers(3, 12)),
    elements={"allow_nan": False, "allow_infinity": False},
)


def through_a_file(encoding: LabelEncoding, logits: Halves) -> tuple[Decoded, int]:
    """Write logits to a Parquet file and read them; return them and the bytes of the file."""
    num_classes = logits.shape[1]
    schema = pa.schema(encoding.fields(num_classes))
    sink = io.BytesIO()
    pq.write_table(pa.table(encoding.encode(logits), schema=schema), sink, **label_options(schema))
    read = pq.read_table(io.BytesIO(sink.getvalue()))
    return encoding.decode(read, num_classes), len(sink.getvalue())


@given(logits=npst.arrays(np.float16, npst.array_shapes(min_dims=2, max_dims=2, max_side=7)))
def test_float16_loses_no_bit(logits: Halves) -> None:
    """Catches a cast on the way, which students would learn from."""
    found, _ = through_a_file(find_encoding("fp16"), logits)
    assert found.logits.dtype == np.float16
    assert found.logits.tobytes() == logits.tobytes()
    assert found.kept is None


@pytest.mark.parametrize("name", ALL)
@settings(deadline=None)
@given(logits=FINITE)
def test_no_stored_logit_is_further_off_than_said(name: str, logits: Halves) -> None:
    """Catches steps that are too coarse, a highest value that is cut off, and nibbles in the wrong half."""
    encoding = find_encoding(name)
    found, _ = through_a_file(encoding, logits)
    kept = np.ones(logits.shape, np.bool_) if found.kept is None else found.kept
    for row, decoded, which in zip(logits, found.logits, kept, strict=True):
        stored = row[which].astype(np.float64)
        error = np.abs(decoded[which].astype(np.float64) - stored).max()
        assert error <= encoding.max_error(float(stored.min()), float(stored.max()))
    assert np.isfinite(found.logits).all()


@pytest.mark.parametrize("name", ["top-3", "top-3-int8", "top-3-int4"])
@settings(deadline=None)
@given(logits=FINITE)
def test_top_k_keeps_the_largest_and_the_mean_of_the_others(name: str, logits: Halves) -> None:
    """Catches the smallest for the largest, other classes, and a fill that moves mass to the others."""
    found, _ = through_a_file(find_encoding(name), logits)
    assert found.kept is not None
    assert (found.kept.sum(axis=1) == 3).all()
    for row, decoded, which in zip(logits, found.logits, found.kept, strict=True):
        if not which.all():
            assert row[which].min() >= row[~which].max()
            expected = np.float16(row[~which].astype(np.float64).mean())
            assert set(decoded[~which].tolist()) == {float(expected)}


def test_of_equal_logits_the_first_classes_are_kept() -> None:
    """Catches an order that depends on the sorting of a machine."""
    found, _ = through_a_file(find_encoding("top-2"), np.ones((1, 5), np.float16))
    assert found.kept is not None
    assert found.kept.tolist() == [[True, True, False, False, False]]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("num_classes", [3, 10, 90, 257])
def test_every_encoding_says_how_many_bytes_it_takes(name: str, num_classes: int) -> None:
    """Catches labels of four times the size, because Parquet stores small integers in 4 bytes."""
    encoding = find_encoding(name)
    logits = np.random.default_rng(0).normal(size=(4096, num_classes)).astype(np.float16)
    found, num_bytes = through_a_file(encoding, logits)
    assert found.logits.shape == logits.shape
    said = len(logits) * encoding.bytes_per_view(num_classes)
    lists = 0.4 * len(logits) * (num_classes + 6)  # where each list begins, at most 3 bits a value
    assert 0.98 * said < num_bytes < said + lists + 6000
    unpacked = sum(array.nbytes for array in encoding.encode(logits))
    assert unpacked <= len(logits) * encoding.max_bytes_per_view(num_classes)


@pytest.mark.parametrize("name", ALL)
def test_the_bytes_do_not_depend_on_the_memory_order(name: str) -> None:
    """Catches raw memory that is written: every view has another's logits."""
    logits = np.random.default_rng(1).normal(size=(5, 7)).astype(np.float16)
    encoding = find_encoding(name)
    for one, other in zip(encoding.encode(np.asfortranarray(logits)), encoding.encode(logits), strict=True):
        assert one.equals(other)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fp17", "there is no encoding 'fp17'; there are fp16, int8, int4, top-K, top-K-int8, top-K-int4"),
        ("top", "K must be a whole number above 0"),
        ("top-0", "K must be a whole number above 0"),
        ("top-1.5", "K must be a whole number above 0"),
        ("top-5-int2", "stores its logits as fp16, int8, int4, not as 'int2'"),
        ("int8-4", "int8 takes no other words, but has '4' after it"),
    ],
)
def test_a_name_that_is_none_says_which_there_are(name: str, message: str) -> None:
    """Catches a KeyError, and a name that is half understood."""
    with pytest.raises(ValueError, match=re.escape(message)):
        find_encoding(name)


def forged(**columns: Any) -> pa.Table:
    """Return a table of top-2 labels of one view over 5 classes, with some columns replaced."""
    table = pa.table(
        find_encoding("top-2-int8").encode(np.arange(5, dtype=np.float16)[None]),
        schema=pa.schema(find_encoding("top-2-int8").fields(5)),
    )
    for name, values in columns.items():
        number = table.schema.get_field_index(name)
        table = table.set_column(number, table.schema.field(name), [pa.array(values, table[name].type)])
    return table


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"top_classes": [[0, 5]]}, "a class beyond the 5"),
        ({"top_classes": [[3, 3]]}, "a class twice"),
        ({"top_logits_step": [np.float16(-1)]}, "a negative step"),
        ({"top_logits_lowest": [np.float16(np.nan)]}, "not finite"),
    ],
)
def test_columns_of_a_hostile_file_are_refused(columns: dict[str, Any], message: str) -> None:
    """Catches an index beyond the array, and NaN that a student would learn from."""
    with pytest.raises(ValueError, match=message):
        find_encoding("top-2-int8").decode(forged(**columns), 5)


def test_pandas_reads_the_columns() -> None:
    """Catches columns that only this package can read."""
    frame = forged().to_pandas()
    assert list(frame["top_classes"][0]) == [4, 3]
    lowest, step = float(frame["top_logits_lowest"][0]), float(frame["top_logits_step"][0])
    assert lowest + step * frame["top_logits"][0][0] == pytest.approx(4.0, abs=0.01)
