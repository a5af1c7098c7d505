"""Dense labels: the logits of all classes."""

from typing import TYPE_CHECKING

from prism_ray.encodings.base import Decoded, LabelEncoding, Logits
from prism_ray.encodings.values import UNPACKED_BYTES, Values

if TYPE_CHECKING:
    import pyarrow as pa

_NAME = "logits"


class Dense(LabelEncoding):
    """Column `logits`, with a value per class, and what the kind of values needs beside it."""

    def __init__(self, values: Values) -> None:
        self._values = values

    def fields(self, num_classes: int) -> "list[pa.Field]":
        return self._values.fields(_NAME, num_classes)

    def encode(self, logits: Logits) -> "list[pa.Array]":
        return self._values.encode(logits)

    def decode(self, table: "pa.Table", num_classes: int) -> Decoded:
        return Decoded(self._values.decode(table, _NAME, num_classes))

    def recipe(self, num_classes: int) -> str:
        values = self._values.recipe(_NAME, num_classes)
        return f"def logits_of(row):\n    return {values}"

    def bytes_per_view(self, num_classes: int) -> float:
        return self._values.num_bytes(num_classes)

    def max_bytes_per_view(self, num_classes: int) -> int:
        return UNPACKED_BYTES * (num_classes + 4)

    def max_error(self, lowest: float, highest: float) -> float:
        return self._values.max_error(lowest, highest)
