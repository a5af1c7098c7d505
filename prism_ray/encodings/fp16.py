"""Dense float16: all logits, unchanged."""

from typing import TYPE_CHECKING

from prism_ray.encodings.base import LabelEncoding, Logits

if TYPE_CHECKING:
    import pyarrow as pa

_UNPACKED_BYTES = 16  # of a logit: its own 2, its index in the list, and pages


class Fp16(LabelEncoding):
    """One column `logits`, a list of C float16 values."""

    def fields(self, num_classes: int) -> "list[pa.Field]":
        import pyarrow as pa

        return [pa.field("logits", pa.list_(pa.float16(), num_classes))]

    def encode(self, logits: Logits) -> "list[pa.Array]":
        import pyarrow as pa

        return [pa.FixedSizeListArray.from_arrays(pa.array(logits.reshape(-1)), logits.shape[1])]

    def decode(self, table: "pa.Table", num_classes: int) -> Logits:
        values: Logits = table["logits"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return values.reshape(len(table), num_classes)

    def bytes_per_view(self, num_classes: int) -> float:
        return 2 * num_classes

    def max_bytes_per_view(self, num_classes: int) -> int:
        return _UNPACKED_BYTES * num_classes
