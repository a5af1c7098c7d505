"""What an encoding of soft labels is. Plan, relabel, `compact`, `verify` and readers know no more of labels
than this.

pyarrow is imported where it is used, so that a config can be checked without it.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa

Logits = npt.NDArray[np.float16]  # B, C


class LabelEncoding(ABC):
    """Columns that hold the logits of B views over C classes; all rows of a table are encoded alike.

    >>> encoding = ENCODINGS["fp16"]
    >>> columns = encoding.encode(logits)  # logits: float16, (B, C)
    >>> table = pa.table(columns, schema=pa.schema(encoding.fields(num_classes)))
    >>> encoding.decode(table, num_classes)  # float16, (B, C)
    """

    @abstractmethod
    def fields(self, num_classes: int) -> "list[pa.Field]":
        """Return the columns' names and types."""

    @abstractmethod
    def encode(self, logits: Logits) -> "list[pa.Array]":
        """Return the columns of some views, in the order of `fields`."""

    @abstractmethod
    def decode(self, table: "pa.Table", num_classes: int) -> Logits:
        """Return the logits of a table that has the columns; raises ValueError if they make no sense."""

    @abstractmethod
    def bytes_per_view(self, num_classes: int) -> float:
        """Return about how many bytes a view's logits take in a file; `plan` forecasts with it."""

    @abstractmethod
    def max_bytes_per_view(self, num_classes: int) -> int:
        """Return how many bytes a view's logits take at most when a file is unpacked, its pages included."""
