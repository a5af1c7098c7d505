"""Encodings of soft labels: what each must do, and that dense float16 loses no bit."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from prism_ray.encodings import ENCODINGS, LabelEncoding

LOGITS = npst.arrays(np.float16, npst.array_shapes(min_dims=2, max_dims=2, max_side=7))


def through_a_file(encoding: LabelEncoding, logits: np.ndarray) -> tuple[np.ndarray, int]:
    """Write logits to a Parquet file and read them; return them and the bytes of the file."""
    num_classes = logits.shape[1]
    table = pa.table(encoding.encode(logits), schema=pa.schema(encoding.fields(num_classes)))
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", use_dictionary=False)
    read = pq.read_table(io.BytesIO(sink.getvalue()))
    return encoding.decode(read, num_classes), len(sink.getvalue())


@given(logits=LOGITS)
def test_float16_loses_no_bit(logits: np.ndarray) -> None:
    """Catches a cast on the way, which students would learn from."""
    found, _ = through_a_file(ENCODINGS["fp16"], logits)
    assert found.dtype == np.float16
    assert found.tobytes() == logits.tobytes()


@pytest.mark.parametrize("name", ENCODINGS)
@given(num_classes=st.integers(2, 50))
def test_every_encoding_forecasts_its_bytes(name: str, num_classes: int) -> None:
    """Catches a `plan` that promises a tenth of what the labels take, and a limit that refuses good files."""
    encoding = ENCODINGS[name]
    logits = np.random.default_rng(0).normal(size=(4000, num_classes)).astype(np.float16)
    found, num_bytes = through_a_file(encoding, logits)
    assert found.shape == logits.shape
    forecast = len(logits) * encoding.bytes_per_view(num_classes)
    assert 0.7 * forecast < num_bytes < 1.1 * forecast + 2000  # noise packs a little
    unpacked = sum(array.nbytes for array in encoding.encode(logits))
    assert unpacked <= len(logits) * encoding.max_bytes_per_view(num_classes)
